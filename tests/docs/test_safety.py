"""C15, C16, C19: what the source must not contain, what its import must not do, and that every dependency is pinned by hash."""

from __future__ import annotations

import ast
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "dbupkeep"

RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
RUNS_A_SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands"}
READS_OBJECTS = {"pickle", "cPickle", "dill", "shelve", "marshal", "yaml", "jsonpickle", "cloudpickle"}
"""Modules that make objects of bytes that somebody else may have written."""

# Children that are started by the interpreter's own means speak over its own pipes; nothing of that is ever stored.
PIPES = {"multiprocessing"}

FILES = sorted(PACKAGE.rglob("*.py"))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_text_becomes_code_and_no_bytes_become_objects(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            assert name not in RUNS_TEXT | RUNS_A_SHELL, f"line {node.lineno}: {name}"
            shells = [word for word in node.keywords if word.arg == "shell" and getattr(word.value, "value", True)]
            assert not shells, f"line {node.lineno}: a shell"
        elif isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & READS_OBJECTS, f"line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.partition(".")[0] not in READS_OBJECTS, f"line {node.lineno}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("engines/postgresql/*.py")), ids=lambda path: path.stem)
def test_no_backend_of_a_server_gets_a_signal_of_the_system(path: Path) -> None:
    """One that is killed takes all the others with it: they are cancelled and ended by SQL alone."""
    called = {dotted(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not called & {"os.kill", "os.killpg", "signal.pidfd_send_signal"}


WITHOUT_NETWORK = """
import importlib, sys

ALLOWED = ["file"]  # croniter, which PgQueuer brings, asks it how wide the interpreter's words are

def audit(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname", "socket.__new__"):
        raise SystemExit(f"{event} {arguments} at import")
    if event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"):
        if arguments[0] not in ALLOWED:
            raise SystemExit(f"{event} {arguments} at import")

sys.addaudithook(audit)
for name in sys.argv[1:]:
    importlib.import_module(name)
print("imported", len(sys.argv) - 1)
"""


def test_importing_reaches_for_no_network_and_starts_nothing() -> None:
    names = [
        info.name for info in pkgutil.walk_packages([str(PACKAGE)], "dbupkeep.")
        if not info.name.startswith(("dbupkeep.__main__", "dbupkeep.testing"))
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, *names], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"imported {len(names)}\n"


def locked() -> dict[str, str]:
    """The lock's requirements by name, each with all that belongs to it."""
    text = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {re.match(r"[\w.-]+", block)[0].lower(): block for block in blocks}  # type: ignore[index] # begins with a name


def test_every_dependency_is_of_one_version_and_checked_by_hash() -> None:
    found = locked()
    assert len(found) > 50
    for name, block in found.items():
        assert re.match(r"[\w.-]+(?:\[[\w,-]+\])?==\S+", block), name
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name
        assert not re.search(r"\b(?:git\+|https?:|file:)", block), f"{name} is not of an index"


def test_what_the_project_wants_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for group in project["optional-dependencies"].values() for each in group),
    ]
    names = {re.match(r"[\w.-]+", each)[0].lower().replace("_", "-") for each in wanted}  # type: ignore[index] # as above
    assert names <= set(locked())


def test_the_environment_is_made_with_hashes_wanted() -> None:
    assert "--require-hashes" in (ROOT / "scripts" / "bootstrap").read_text()


def test_the_bill_of_materials_names_what_an_installation_brings() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "sbom"), "postgresql"]
    found = json.loads(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
    assert found["bomFormat"] == "CycloneDX"
    components = {each["name"]: each for each in found["components"]}
    assert {"apsw", "click", "fastapi", "pydantic", "psycopg", "pgqueuer"} <= set(components)
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & set(components)
    pins = locked()
    for name, each in components.items():
        assert each["hashes"], name
        assert re.match(rf"[\w.-]+(?:\[[\w,-]+\])?=={re.escape(each['version'])}(?=\s)", pins[name]), name


def test_every_threat_of_the_catalogue_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "reference" / "security.md").read_text()
    rows = dict(re.findall(r"^\| (C\d+) \|.*\| (.*) \|$", page, re.MULTILINE))
    assert list(rows) == [f"C{number}" for number in range(1, 21)]
    for threat, shown_by in rows.items():
        named = re.findall(r"`([\w/]+\.py)`", shown_by)
        assert named, threat
        for name in named:
            assert [*ROOT.glob(f"tests/**/{name}"), *PACKAGE.glob(f"**/{name}"), *ROOT.glob(name)], f"{threat}: {name}"
