from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dbupkeep.jobs import ChildStats, Job, Phase
from dbupkeep.plans import Source
from dbupkeep.progress import Progress, forward, measured, of_parent

AMOUNTS = st.floats(-10, 1000, allow_nan=False)


@given(AMOUNTS, st.none() | AMOUNTS)
def test_what_is_counted_is_a_share_below_one_or_unknown(current: float, total: float | None) -> None:
    progress = measured(current, total, "bytes")
    if total and total > 0:
        assert progress.fraction is not None
        assert 0 <= progress.fraction < 1
        assert progress.source is Source.MEASURED
    else:
        assert (progress.fraction, progress.source) == (None, Source.UNKNOWN)


@given(st.lists(st.tuples(AMOUNTS, st.sampled_from([None, 0, 100, 1000])), min_size=2))
def test_progress_never_goes_back(reports: list[tuple[float, float | None]]) -> None:
    last: Progress | None = None
    shown = [last := forward(last, measured(current, total, "bytes")) for current, total in reports]
    assert all((one.fraction or 0) <= (next_one.fraction or 0) for one, next_one in pairwise(shown))
    assert [(progress.current) for progress in shown] == [current for current, _ in reports], (
        "the amount is what was said"
    )


def running(weight: int, fraction: float | None) -> Job:
    return Job(
        id="j", parent_id="p", correlation_id="p", type="t", phase=Phase.EXECUTION, name="n", weight=weight,
        created_at=datetime(2026, 1, 1, tzinfo=UTC), progress=None if fraction is None else {"fraction": fraction},
    )  # fmt: skip


def test_a_parent_is_the_ended_weight_and_the_share_of_what_runs() -> None:
    stats = ChildStats(completed=1, running=2, pending=1, weight_total=100, weight_ended=20)
    assert of_parent(stats, [], ended=False).fraction == 0.2
    assert of_parent(stats, [], ended=False).source is Source.ESTIMATED  # weights are expected times
    half = of_parent(stats, [running(40, 0.5), running(10, None)], ended=False)
    assert (half.fraction, half.source) == (0.4, Source.ESTIMATED)
    assert (half.current, half.total, half.unit) == (1, 4, "jobs")


def test_a_parent_of_which_nothing_is_known_has_no_fraction() -> None:
    progress = of_parent(ChildStats(running=1, pending=1, weight_total=100), [running(50, None)], ended=False)
    assert (progress.fraction, progress.source, progress.current, progress.total) == (None, Source.UNKNOWN, 0, 2)


def test_a_parent_is_whole_only_at_its_end() -> None:
    stats = ChildStats(completed=3, running=1, weight_total=100, weight_ended=90)
    fraction = of_parent(stats, [running(10, 1.0)], ended=False).fraction
    assert fraction is not None
    assert fraction < 1
    assert of_parent(ChildStats(completed=4, weight_total=100, weight_ended=100), [], ended=True).fraction == 1.0


def test_a_whole_that_still_grows_has_no_share() -> None:
    stats = ChildStats(completed=3, running=1, weight_total=100, weight_ended=90)
    progress = of_parent(stats, [], ended=False, still_growing=True)
    assert (progress.fraction, progress.total, progress.current) == (None, None, 3)
