"""`python -m siftline`: the command line where the script is not on the path."""

from siftline.cli import main

main()
