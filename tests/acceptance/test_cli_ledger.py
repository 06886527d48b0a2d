"""Copies of the ledger: made while it is worked on, checked, and put back where nobody works on it."""

from __future__ import annotations

import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbupkeep.testing.pair_kit import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script


@pytest.fixture
def ledger(cli: Cli, tmp_path: Path) -> Path:
    path = tmp_path / "state" / "ledger.db"
    cli.environ["DBUPKEEP_LEDGER"] = str(path)
    return path


def test_copy_is_whole_private_and_not_overwritten(cli: Cli, ledger: Path, bloated: Path) -> None:
    cli("run", "app.db")
    said = cli("ledger", "backup", "copy.db")
    assert said.code == 0
    assert "1 run" in said.out
    copy = bloated.parent / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in bloated.parent.glob("*copy*")) == ["copy.db"]
    assert cli("jobs", "--json", "--ledger", "copy.db").json == cli("jobs", "--json").json
    before = copy.read_bytes()
    refused = cli("ledger", "backup", "copy.db")
    assert refused.code == 1
    assert "is there already" in refused.err
    assert copy.read_bytes() == before
    cli("run", "app.db")
    assert cli("ledger", "backup", "copy.db", "--force", "--json").json["runs"] == 2
    assert cli("ledger", "backup", ledger, "--force").code == 1, "a copy over the ledger itself"
    assert cli("ledger", "backup", "nowhere/copy.db").code == 1


def test_copy_made_while_a_worker_is_at_work_is_restored_after_a_kill_and_goes_on(
    cli: Cli, script: Script, ledger: Path, tmp_path: Path
) -> None:
    cli.environ["DBUPKEEP_LEASE"] = "1"
    run_id = cli("run", "scripted:///a", "--detach").out.strip()
    worker = cli.start("worker")
    eventually("it is at work", lambda: "running" in _statuses(cli, run_id))
    assert cli("ledger", "backup", "copy.db", "--json").json["unended"] == 4
    in_use = cli("ledger", "restore", "copy.db", "--force")
    assert in_use.code == 1
    assert "is in use and is not replaced" in in_use.err
    worker.signal(signal.SIGKILL)
    worker.end()
    for path in ledger.parent.glob("ledger.db*"):
        path.unlink()
    restored = cli("ledger", "restore", "copy.db")
    assert restored.code == 0
    assert "4 jobs to go on" in restored.out
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    script.let("vacuum", "reindex", "analyze")
    assert cli("worker", "--drain").code == 0
    assert _statuses(cli, run_id) == ["completed"] * 3
    attempts = [job["attempt"] for job in cli("show", run_id, "--json").json["jobs"]]
    assert attempts == [2, 1, 1]


def test_whoever_has_it_open_is_in_the_way(cli: Cli, ledger: Path, bloated: Path) -> None:
    cli("run", "app.db")
    cli("ledger", "backup", "copy.db")
    reader = sqlite3.connect(ledger)
    reader.execute("select count(*) from jobs").fetchall()
    refused = cli("ledger", "restore", "copy.db", "--force")
    assert refused.code == 1
    assert "a process has it open" in refused.err
    reader.close()
    assert cli("ledger", "restore", "copy.db", "--force").code == 0


def test_what_was_there_is_kept(cli: Cli, ledger: Path, bloated: Path) -> None:
    cli("run", "app.db")
    cli("ledger", "backup", "copy.db")
    cli("run", "app.db")
    refused = cli("ledger", "restore", "copy.db")
    assert refused.code == 1
    assert "is there already" in refused.err
    inode = ledger.stat().st_ino
    done = cli("ledger", "restore", "copy.db", "--force", "--json").json
    assert (done["runs"], ledger.stat().st_ino) == (1, inode), "who waits to open it would work on a file that is gone"
    assert len(cli("jobs", "--json").json["jobs"]) == 1
    assert len(cli("jobs", "--json", "--ledger", done["kept"]).json["jobs"]) == 2
    assert stat.S_IMODE(Path(done["kept"]).stat().st_mode) == 0o600
    trail = cli("audit", "list", "--json").json
    assert "ledger_restore" in [act["what"] for act in trail["acts"]]
    assert cli("audit", "verify").code == 0
    assert cli("ledger", "restore", done["kept"], "--force").code == 0
    assert len(cli("jobs", "--json").json["jobs"]) == 2
    assert cli("run", "app.db").code == 0


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied"])
def test_damaged_ledger_is_found_and_replaced(cli: Cli, ledger: Path, bloated: Path, how: str) -> None:
    cli("run", "app.db")
    cli("ledger", "backup", "copy.db")
    whole = ledger.read_bytes()
    ledger.write_bytes(
        {"flipped": whole[:9000] + bytes(9000) + whole[18000:], "cut": whole[:9000], "emptied": b""}[how]
    )
    assert cli("ledger", "check").code != 0
    assert cli("ledger", "backup", "other.db").code != 0
    assert not (bloated.parent / "other.db").exists()
    if how == "flipped":  # the others nobody could have open
        reader = sqlite3.connect(ledger)
        reader.execute("pragma user_version").fetchall()
        in_use = cli("ledger", "restore", "copy.db", "--force")
        assert in_use.code == 1
        assert "is in use and is not replaced" in in_use.err
        reader.close()
    done = cli("ledger", "restore", "copy.db", "--force", "--json").json
    assert Path(done["kept"]).stat().st_size == len(ledger.read_bytes()) or how != "flipped"
    assert len(cli("jobs", "--json").json["jobs"]) == 1
    assert cli("ledger", "check").code == 0
    assert cli("run", "app.db").code == 0


def test_what_is_left_of_a_lost_file_is_not_read_into_the_copy(cli: Cli, ledger: Path, bloated: Path) -> None:
    cli("run", "app.db")
    cli("ledger", "backup", "copy.db")
    copy, log = bloated.parent / "copy.db", _left_by_a_killed_process(ledger)
    ledger.unlink()
    Path(f"{ledger}-wal").write_bytes(log)
    assert cli("ledger", "restore", "copy.db").code == 0
    assert cli("ledger", "check").code == 0
    assert len(cli("jobs", "--json").json["jobs"]) == 1
    assert [path.read_bytes() for path in ledger.parent.glob("ledger.db.replaced-*-wal")] == [log]
    Path(f"{copy}-wal").write_bytes(log)
    assert cli("ledger", "backup", "copy.db", "--force").code == 0
    assert cli("ledger", "check", "copy.db").code == 0


def _left_by_a_killed_process(ledger: Path) -> bytes:
    """A log of changes that nobody had the time to bring into the ledger."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("insert into documents values ('filling', 'x', zeroblob(500000), 1, '')")
        connection.commit()
        return Path(f"{ledger}-wal").read_bytes()


def test_what_is_no_copy_is_refused(cli: Cli, ledger: Path, bloated: Path) -> None:
    cli("run", "app.db")
    cli("ledger", "backup", "copy.db")
    copy = bloated.parent / "copy.db"
    damaged = copy.read_bytes()
    (bloated.parent / "damaged.db").write_bytes(damaged[:9000] + bytes(9000) + damaged[18000:])
    before = ledger.read_bytes()
    for name, said in (
        ("app.db", "not a ledger"),
        ("damaged.db", "damaged"),
        ("nowhere.db", "no file"),
        (str(ledger), "itself"),
    ):
        refused = cli("ledger", "restore", name, "--force")
        assert refused.code != 0
        assert said in refused.err
    assert ledger.read_bytes() == before


def test_ledger_on_a_server_is_left_to_its_own_tools(cli: Cli) -> None:
    place = "postgresql://me@db.example.org/shop"
    backup = cli("ledger", "backup", "copy.db", "--ledger", place)
    assert backup.code == 13
    assert (
        "pg_dump --format=custom --schema=dbupkeep --file=ledger.dump postgresql://me@db.example.org/shop" in backup.err
    )
    restore = cli("ledger", "restore", "copy.db", "--ledger", place)
    assert restore.code == 13
    assert "pg_restore" in restore.err


def _statuses(cli: Cli, run_id: str) -> list[str]:
    return [job["status"] for job in cli("show", run_id, "--json").json["jobs"]]
