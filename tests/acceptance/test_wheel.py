"""What users install: the wheel in an empty environment, with what its metadata asks for and nothing of this checkout."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import venv
import zipfile
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("wheel")]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside of the checkout and return its output; its messages tell why it failed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=inherited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    folder: Path
    version: str

    def dbupkeep(self, *arguments: str | Path) -> str:
        return run(self.folder / "bin" / "dbupkeep", *arguments, cwd=self.folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("dbupkeep-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install into an empty environment, held to the versions that are tested here, so that a new release of a
    dependency cannot turn an unchanged project red."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=True)
    constraints = folder / "constraints.txt"
    tested = {(d.name, d.version) for d in distributions() if d.name != "dbupkeep"}
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(tested)), encoding="utf-8")
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-qq", "--constraint", constraints, wheel, cwd=folder)
    run(python, "-m", "pip", "check", cwd=folder)
    return Installed(folder=folder, version=wheel.name.split("-")[1])


@pytest.fixture
def bloated(tmp_path: Path) -> Path:
    """Make a database of about 4 MB of which most is free, with another SQLite library than the product's."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT)")
        db.execute("CREATE INDEX note_body ON note (body)")
        db.executemany("INSERT INTO note (body) VALUES (?)", ((f"{i:06} " + "x" * 400,) for i in range(5000)))
        db.commit()
        db.execute("DELETE FROM note WHERE id % 10")
        db.commit()
    return path


def test_wheel_brings_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"dbupkeep"}
    assert "dbupkeep/py.typed" in names
    packed = {name for name in names if name.startswith("dbupkeep/")}
    present = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "dbupkeep").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == present, "SQL, scripts and pages travel with the code"


def test_installed_command_tells_its_version(installed: Installed) -> None:
    assert installed.version in installed.dbupkeep("--version")


def test_installed_command_maintains_a_database(installed: Installed, bloated: Path) -> None:
    before = bloated.stat().st_size
    parent: dict[str, Any] = json.loads(installed.dbupkeep("run", bloated, "--json"))

    assert parent["type"] == "database_maintenance_parent"
    assert parent["parent_id"] == parent["id"]
    assert parent["status"] == "completed"
    assert {job["config"]["operation"] for job in parent["jobs"]} == {"vacuum", "analyze", "reindex"}
    assert {job["parent_id"] for job in parent["jobs"]} == {parent["id"]}
    assert bloated.stat().st_size < before / 2
    with closing(sqlite3.connect(bloated)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM note").fetchone() == (500,)
        assert db.execute("SELECT count(*) FROM sqlite_stat1").fetchone() > (0,)
