"""A file that may not be written can be checked, since that only reads; everything else is refused, and nothing is changed."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.errors import Busy, Damaged, Kind, Refused
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import Recorder

PAGE = 4096

pytestmark = pytest.mark.slow


def rollback(lab: Any) -> Path:
    return Path(lab.make())


def closed(lab: Any) -> Path:
    """In WAL mode, and nobody has it open: read without a lock, which would leave files beside it."""
    return Path(lab.make(journal="wal"))


def opened(lab: Any) -> Path:
    """In WAL mode, open in another program, with content that is in the `-wal` alone."""
    path = Path(lab.make(journal="wal"))
    lab.other(path).does("INSERT INTO t (a, b) SELECT a, b FROM t LIMIT 500")
    return path


def left(lab: Any) -> Path:
    """In WAL mode, as a copy or a power cut leaves it: with a `-wal`, without its `-shm`."""
    path = Path(lab.make(journal="wal"))
    one = lab.other(path)
    one.does("INSERT INTO t (a, b) SELECT a, b FROM t LIMIT 500")
    one.dies()
    Path(f"{path}-shm").unlink()
    return path


STATES = (rollback, closed, opened, left)


def read_only(path: Path) -> Path:
    path.chmod(stat.S_IRUSR)
    return path


@pytest.mark.parametrize("state", STATES)
def test_it_is_checked_as_it_is(lab: Any, state: Callable[[Any], Path]) -> None:
    path = read_only(state(lab))
    item = lab.planned(path, Operation.CHECK)
    before = lab.fingerprint()
    work, evidence = lab.done(path, item)
    assert evidence.effective is Effective.YES
    assert "found no fault" in evidence.reason
    assert work.values["faults"] == 0
    assert lab.fingerprint() == before


@pytest.mark.parametrize("state", STATES)
def test_its_damage_is_found(lab: Any, state: Callable[[Any], Path]) -> None:
    path = state(lab)
    item = lab.planned(path, Operation.CHECK)
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // PAGE):
            file.seek(page * PAGE)
            file.write(b"\xff" * PAGE)
    with pytest.raises(Damaged):
        lab.done(read_only(path), item)


@pytest.mark.parametrize("operation", [each for each in Operation if each is not Operation.CHECK])
@pytest.mark.parametrize("state", STATES)
def test_nothing_else_is_done(lab: Any, operation: Operation, state: Callable[[Any], Path]) -> None:
    path = state(lab)
    item = lab.planned(path, operation)
    before = lab.fingerprint()
    with pytest.raises(Refused) as raised:
        lab.done(read_only(path), item)
    assert raised.value.kind is Kind.READ_ONLY
    assert "checked" in raised.value.hint
    assert lab.fingerprint() == before


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("state", [closed, left])
def test_what_was_read_while_somebody_wrote_is_no_finding(
    lab: Any, state: Callable[[Any], Path], *, stays: bool
) -> None:
    path = state(lab)
    item = lab.planned(path, Operation.CHECK)

    def somebody_comes(_stage: str) -> None:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)  # who may write it is another user
        one = lab.other(path)
        one.does("UPDATE t SET b = a, a = b")
        if not stays:
            one.does("PRAGMA wal_checkpoint(TRUNCATE)")
            one.close()

    with pytest.raises(Busy, match="opened by another program while it was read"):
        lab.done(read_only(path), item, Recorder(somebody_comes))


def test_an_interrupted_transaction_cannot_be_rolled_back_there(lab: Any) -> None:
    path = rollback(lab)
    item = lab.planned(path, Operation.CHECK)
    lab.crash(path)
    before = lab.fingerprint()
    with pytest.raises(Refused, match="interrupted transaction") as raised:
        lab.done(read_only(path), item)
    assert raised.value.kind is Kind.READ_ONLY
    assert lab.fingerprint() == before


def test_a_lost_check_left_nothing_to_mend(lab: Any) -> None:
    path = closed(lab)
    item = lab.planned(path, Operation.CHECK)
    session = lab.opened(read_only(path))
    before = lab.fingerprint()
    assert session.recover(item, "lost:1") is None
    session.close()
    assert lab.fingerprint() == before
