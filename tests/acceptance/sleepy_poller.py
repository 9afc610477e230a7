"""The embedded mode's worker, with jobs that sleep."""

from siftline_workers.poller import main
from tests.acceptance.sleepy_child import COMMAND

if __name__ == "__main__":
    main(COMMAND)
