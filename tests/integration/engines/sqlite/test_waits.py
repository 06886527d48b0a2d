"""What work says of itself while another program keeps it waiting for a lock, and afterwards."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

import pytest

from dbupkeep.engine import Work
from dbupkeep.errors import Busy, preserved, revive
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import Recorder


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.ANALYZE])
def test_while_it_waits_for_a_lock_it_says_for_whom(lab: Any, journal: str, operation: Operation) -> None:
    path = lab.make(journal=journal)
    item = lab.planned(path, operation, lock_wait=0.2, lock_tries=200)  # most of it is pauses between tries
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    session = lab.opened(path)
    report = Recorder()
    results: list[Work] = []
    thread = threading.Thread(target=lambda: results.append(session.run(item, report)))
    with report.sampling():
        thread.start()
        deadline = perf_counter() + 20
        while not any(f"(pid {one.pid})" in seen.stage for seen in report.seen) and perf_counter() < deadline:
            thread.join(0.01)
        one.does("COMMIT")
        thread.join()
    session.close()
    waits = [seen for seen in report.seen if seen.stage.startswith("waiting for a lock held by python")]
    assert waits
    assert all(seen.fraction is None for seen in waits)
    assert results[0].values["lock_wait_seconds"] not in (None, 0)


def test_waiting_for_a_lock_in_vain_is_measured_too(lab: Any) -> None:
    path = lab.make()
    item = lab.planned(path, Operation.VACUUM, lock_wait=0.1, lock_tries=2)
    one = lab.other(path)
    one.does("BEGIN IMMEDIATE")
    with pytest.raises(Busy) as raised:
        lab.done(path, item)
    assert raised.value.waited is not None
    assert raised.value.waited >= 0.2
    again = revive(preserved(raised.value))
    assert isinstance(again, Busy)
    assert again.waited == raised.value.waited  # where a child process does the work


def test_work_that_waits_for_nobody_waited_for_no_time(lab: Any) -> None:
    path = lab.make()
    work, _ = lab.done(path, lab.planned(path, Operation.VACUUM))
    assert work.values["lock_wait_seconds"] == 0
