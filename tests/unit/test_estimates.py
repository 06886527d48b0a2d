from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from dbupkeep.estimates import OF_MEMBERS, RECENT, History, Measurement
from dbupkeep.operations import Operation
from dbupkeep.plans import Source

NOW = datetime(2026, 1, 20, tzinfo=UTC)
MB = 1 << 20


def measurement(
    *, seconds: float = 1.0, megabytes: int = 10, days_ago: int = 1, gain: int = 0, predicted: int | None = None,
    object: str = "", operation: Operation = Operation.VACUUM,
) -> Measurement:  # fmt: skip
    return Measurement(
        at=NOW - timedelta(days=days_ago), engine="sqlite", target="t", object=object, operation=operation,
        method="in place", seconds=seconds, work_bytes=megabytes * MB, bytes_before=100 * MB,
        bytes_after=100 * MB - gain, predicted_gain=predicted,
    )  # fmt: skip


def test_own_runs_go_before_others_and_those_before_the_default() -> None:
    own, others = [measurement(seconds=2)], [measurement(seconds=1)]
    seconds = {
        "own": History(own=own, others=others).seconds(Operation.VACUUM, 20 * MB, default_rate=MB),
        "others": History(others=others).seconds(Operation.VACUUM, 20 * MB, default_rate=MB),
        "default": History().seconds(Operation.VACUUM, 20 * MB, default_rate=MB),
        "nothing": History().seconds(Operation.VACUUM, 20 * MB),
    }
    assert seconds == {
        "own": (4.0, Source.HISTORY), "others": (2.0, Source.ESTIMATED), "default": (20.0, Source.ESTIMATED),
        "nothing": (None, Source.UNKNOWN),
    }  # fmt: skip


def test_another_operation_or_object_says_nothing() -> None:
    own = [measurement(object="a"), measurement(operation=Operation.ANALYZE)]
    assert History(own=own).seconds(Operation.VACUUM, MB) == (None, Source.UNKNOWN)
    assert History(own=own).last(Operation.VACUUM, "a") is own[0]
    assert History(own=own).last(Operation.VACUUM) is None


def test_a_groups_run_is_one_of_each_of_its_members() -> None:
    each = {"a": {"bytes": 7, "before": 9, "predicted": 4, "version": "2"}, "b": {}}
    group = replace(measurement(object="small ones", days_ago=2), values={OF_MEMBERS: json.dumps(each)})
    history = History(own=[measurement(object="a", days_ago=1), group, measurement(object="b", days_ago=3)])
    assert history.last(Operation.VACUUM, "small ones") is group
    assert history.last(Operation.VACUUM, "a") is history.own[0], "the newest is its own"
    last = history.last(Operation.VACUUM, "b")
    assert last is not None
    assert (last.at, last.values) == (group.at, {})
    a, _ = group.parts
    assert (a.gain, a.predicted_gain, a.values["version"], a.seconds) == (2, 4, "2", 0.0)
    assert history.seconds(Operation.VACUUM, MB, object="small ones")[1] is Source.HISTORY


def test_the_newest_runs_count_and_one_odd_one_does_not() -> None:
    newest = [measurement(seconds=s) for s in (1, 1, 100, 1, 1)]
    assert len(newest) == RECENT
    old = [measurement(seconds=50)] * 20
    assert History(own=[*newest, *old]).seconds(Operation.VACUUM, 10 * MB) == (1.0, Source.HISTORY)
    assert History(own=[measurement(seconds=0), measurement(megabytes=0)]).seconds(Operation.VACUUM, MB)[0] is None


@pytest.mark.parametrize(
    ("days_ago", "gain", "predicted", "cooling"),
    [
        (1, 4 * MB, 10 * MB, True),
        (1, 5 * MB, 10 * MB, False),  # half is not less than half
        (1, 0, None, False),  # nothing was predicted, so nothing was missed
        (10, 0, 10 * MB, False),  # long enough ago
        (9, 0, 10 * MB, True),
        (1, -5 * MB, 10 * MB, True),  # it grew
    ],
)
def test_what_gained_too_little_is_not_believed_again_at_once(
    days_ago: int, gain: int, predicted: int | None, cooling: bool
) -> None:
    last = measurement(days_ago=days_ago, gain=gain, predicted=predicted)
    history = History(own=[last, measurement(days_ago=11, predicted=50 * MB)])
    assert history.cooling_off(Operation.VACUUM, NOW, timedelta(days=10)) == (last if cooling else None)
