"""C4: a password goes through two hundred ways to fail, and is nowhere afterwards: not in what is said, not in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbupkeep.views.cli.entry import run

CANARY = "c4n4ry-hunter2"

SHAPES = [
    f"postgresql://me:{CANARY}@127.0.0.1:1/x",
    f"postgresql:/me:{CANARY}@127.0.0.1:1/x",
    f"postgresql:me:{CANARY}@127.0.0.1:1/x",
    f"postgresql:///me:{CANARY}@127.0.0.1:1/x",
    f"postgres://me:{CANARY}@[127.0.0.1:1/x",
    f"postgresql://me:{CANARY}@127.0.0.1:port/x",
    f"postgresql://me:{CANARY}%zz@127.0.0.1:1/x",
    f"postgresql://me:{CANARY} 2@127.0.0.1:1/x",
    f"postgresql://me:a@{CANARY}@127.0.0.1:1/x",
    f"postgresql://me:a/{CANARY}@127.0.0.1:1/x",
    f"postgresql://me:a#{CANARY}@127.0.0.1:1/x",
    f"postgresql://me:a?{CANARY}@127.0.0.1:1/x",
    f"postgresql://:{CANARY}@127.0.0.1:1/x",
    f"postgresql://me@127.0.0.1:1/x?password={CANARY}",
    f"postgresql://me@127.0.0.1:1/x?sslpassword={CANARY}",
    f"postgresql://me:{CANARY}@127.0.0.1:1/x?nonsense=1",
    f"postgresql+psycopg://me:{CANARY}@127.0.0.1:1/x",
    f"mysql://me:{CANARY}@127.0.0.1:1/x",
    f"mariadb://me:{CANARY}@127.0.0.1:1/x",
    f"nonsense://me:{CANARY}@127.0.0.1:1/x",
    f"POSTGRESQL://me:{CANARY}@127.0.0.1:1/x",
]

Environ = dict[str, str]


def config_of(folder: Path, shape: str) -> Environ:
    path = folder / "config" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"version = 1\n[targets.a]\nurl = {json.dumps(shape)}\n")
    return {"DBUPKEEP_CONFIG": str(path)}


WAYS: dict[str, Callable[[Path, str], tuple[list[str], Environ]]] = {
    "planned": lambda folder, shape: (["plan", shape], {}),
    "run": lambda folder, shape: (["run", shape, "--json"], {}),
    "asked why": lambda folder, shape: (["why", shape, "t"], {}),
    "its history": lambda folder, shape: (["history", shape], {}),
    "seen by doctor": lambda folder, shape: (["doctor", shape], {}),
    "as the ledger's option": lambda folder, shape: (["jobs", "--ledger", shape], {}),
    "as the ledger's variable": lambda folder, shape: (["jobs", "-vv"], {"DBUPKEEP_LEDGER": shape}),
    "as the ledger that is backed up": lambda folder, shape: (["ledger", "backup", "copy.db"], {"DBUPKEEP_LEDGER": shape}),
    "as the ledger that is checked": lambda folder, shape: (["ledger", "check"], {"DBUPKEEP_LEDGER": shape}),
    "as the ledger of the audit trail": lambda folder, shape: (["audit", "verify"], {"DBUPKEEP_LEDGER": shape}),
    "in the configuration, checked": lambda folder, shape: (["config", "check"], config_of(folder, shape)),
    "in the configuration, shown": lambda folder, shape: (["config", "show", "--origin", "--json"], config_of(folder, shape)),
    "in the configuration, planned": lambda folder, shape: (["plan", "a", "-vv"], config_of(folder, shape)),
    "in a variable of the configuration": lambda folder, shape: (
        ["plan", "a", "--log-format", "json"], {"DBUPKEEP_TARGETS__A__URL": shape},
    ),
    "as a name": lambda folder, shape: (["token", "create", shape[:64]], {}),
    "as an exclusion": lambda folder, shape: (["plan", str(folder / "app.db"), "--exclude", shape], {}),
}  # fmt: skip


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what is written, and no other settings than those of the test."""
    monkeypatch.setenv("DBUPKEEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    monkeypatch.chdir(tmp_path)
    return tmp_path  # type: ignore[return-value] # a fixture without an end


@pytest.mark.parametrize("way", WAYS)
def test_a_password_is_nowhere_afterwards(
    surroundings: Path, way: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for shape in SHAPES:
        arguments, environ = WAYS[way](surroundings, shape)
        with monkeypatch.context() as setting:
            for name, value in environ.items():
                setting.setenv(name, value)
            code = run(arguments)
        said = "".join(capfd.readouterr())
        assert code != 0, (shape, said)
        assert CANARY not in said, (shape, said)
        assert said.strip(), "it is told what went wrong"
    made = [path for path in surroundings.rglob("*") if path.parent.name != "config"]
    assert [path for path in made if CANARY in str(path)] == []
    assert [path for path in made if path.is_file() and CANARY.encode() in path.read_bytes()] == []


def test_these_are_enough_ways() -> None:
    assert len(SHAPES) * len(WAYS) >= 200
