"""Rules of the house that no linter knows."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from siftline.settings import GIB, MIB, Settings

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for root in ("app", "workers", "migrations", "benchmarks", "tests")
    for path in (ROOT / root).rglob("*.py")
    if "versions" not in path.parts  # Alembic's own shape
)
LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 20


def test_every_file_stays_under_300_lines() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_every_function_of_the_product_stays_within_40_lines() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": _body_lines(node)
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("app", "workers", "migrations")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in long.items() if length > LONGEST_FUNCTION} == {}


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code: a signature's options and a docstring do not make a function hard to hold in mind."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_as_it_is(name: str) -> None:
    field = Settings.model_fields[name]
    row = f"| `SIFTLINE_{name.upper()}` | {_shown(name, field.default)} | {field.description} |"
    assert row in (ROOT / "docs/settings.md").read_text(), f"add to docs/settings.md: {row}"


def _shown(name: str, default: object) -> str:
    if default in (None, ""):
        return "unset"
    if name.endswith("_bytes") and isinstance(default, int):
        return f"{default} ({default // GIB} GiB)" if default >= GIB else f"{default} ({default // MIB} MiB)"
    return f"`{json.dumps(list(default))}`" if isinstance(default, tuple) else f"`{default}`"


def test_the_service_runs_without_torch() -> None:
    program = """
import json, pkgutil, sys, siftline
for found in pkgutil.walk_packages(siftline.__path__, "siftline."):
    if found.name != "siftline.__main__":
        __import__(found.name)
print(json.dumps(sorted(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)
    loaded = set(json.loads(answer.stdout))
    assert "siftline.schemas" in loaded
    assert not loaded & {"torch", "timm", "torchvision", "openvino", "faiss", "siftline_workers"}


def test_importing_the_package_is_cheap() -> None:
    """Workers and migrations import it, too: the client and its HTTP library come only when asked for."""
    program = "import json, sys, siftline; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)
    assert not set(json.loads(answer.stdout)) & {"httpx2", "pydantic", "numpy"}
