"""Small by budget: how long a module and a function may be, how wide a port, and which names are not taken."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "dbupkeep"

MODULE_LINES = 600  # aim at 300
FUNCTION_LINES = 60  # aim at 25
PORT_METHODS = 10

PORTS = {
    "ledger.py": ("Ledger", "Trail", "Reader"),
    "queue.py": ("Queue",),
    "engine.py": ("Engine", "Session"),
    "follower.py": ("Follower",),
    "manager.py": ("JobManager",),
    "worker.py": ("JobWorker",),
}
VAGUE = {"base", "common", "core", "helper", "helpers", "misc", "shared", "tools", "util", "utils"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public_methods(port: ast.ClassDef) -> list[str]:
    """What a fulfilment must bring: methods, properties and annotated members."""
    names = []
    for node in port.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES, f"{name_of(path)} is too long: split it by what it does"
    long = {
        node.name: length
        for node in functions(ast.parse(text))
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }
    assert not long, f"functions over {FUNCTION_LINES} lines: {long}"


@pytest.mark.parametrize(("file", "port"), [(file, port) for file, ports in PORTS.items() for port in ports])
def test_port_is_narrow(file: str, port: str) -> None:
    path = PACKAGE / file
    if not path.exists():
        pytest.skip(f"{file} is not written yet")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (definition,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == port)
    methods = public_methods(definition)
    assert 0 < len(methods) <= PORT_METHODS, methods


def test_no_module_has_a_vague_name() -> None:
    vague = [name_of(path) for path in MODULES if VAGUE & {path.stem, path.parent.name}]
    assert not vague, "name a module after what it does"
