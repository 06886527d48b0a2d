"""Followers on a real ledger: nothing lost, nothing counted twice, whoever is killed, down, or there twice."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.clock import SystemClock
from dbupkeep.errors import LedgerError
from dbupkeep.following import LEASE, Following
from dbupkeep.outbox import REFUSALS, Overtaken, Post, state_of
from dbupkeep.testing.pair_kit import eventually

ALWAYS = lambda: True  # noqa: E731 - a value


def post(bench: Any, follower: Any) -> Post:
    return Post(follower, **bench.parts())


def step(bench: Any, at: Post) -> None:
    while at.step(bench.app.reader.newest(), ALWAYS):
        pass


def following(bench: Any, *followers: Any, app: App | None = None) -> Following:
    made = Following(**bench.parts(app))
    made.use(followers)
    return made


def test_each_event_is_taken_in_once_and_a_new_start_goes_on_from_there(bench: Any, notes: Any) -> None:
    bench.run()
    first, again = notes(), notes()
    at = post(bench, first)
    step(bench, at)
    at.save()
    bench.run()
    step(bench, post(bench, again))
    newest = bench.app.reader.newest()
    assert [*first.taken, *again.taken] == list(range(1, newest + 1))
    assert first.texts == ["run 1", "run 2"]  # the parent of the database, and the run
    assert again.texts == ["run 3", "run 4"]


def test_what_was_not_kept_is_done_again_with_the_same_ids(bench: Any, notes: Any) -> None:
    bench.run()
    lost, kept = notes(fails=lambda _: "the line is dead"), notes()
    step(bench, post(bench, lost))  # killed here: its messages are in the ledger, undelivered
    step(bench, post(bench, kept))
    assert kept.taken == []
    assert len(kept.delivered) == 2
    killed_after = notes(name="other")
    crashed = post(bench, killed_after)
    crashed.save = lambda: None  # type: ignore[method-assign] # killed after delivery, before that was kept
    step(bench, crashed)
    again = notes(name="other")
    step(bench, post(bench, again))
    assert [each.id for each in again.delivered] == [each.id for each in killed_after.delivered]


def test_a_new_follower_begins_with_what_is_still_to_come(bench: Any, notes: Any) -> None:
    bench.run()
    fresh = notes(from_start=False)
    step(bench, post(bench, fresh))
    assert fresh.taken == []
    bench.run()  # while no service runs
    step(bench, post(bench, fresh))
    assert fresh.texts == ["run 1", "run 2"]


def test_messages_wait_in_order_longer_each_time_and_come_when_the_receiver_is_back(bench: Any, notes: Any) -> None:
    tries: list[float] = []

    def fails(_: object) -> str:
        tries.append(bench.clock.monotonic())
        return "the line is dead" if len(tries) < 6 else ""

    receiver = notes(fails=fails)
    bench.run()
    at = post(bench, receiver)
    step(bench, at)
    state = state_of(bench.app.reader, "notes")
    assert state is not None
    assert (state.tries, state.reason, len(state.outbox)) == (1, "the line is dead", 2)
    while not receiver.delivered:
        bench.clock.wait(seconds=0.5)
        step(bench, at)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries[:6])]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 8 * gaps[0]
    assert receiver.texts == ["run 1", "run 2"]
    state = state_of(bench.app.reader, "notes")
    assert state is not None
    assert (state.failing_since, state.failures, state.delivered, state.outbox) == (None, 5, 2, [])


def test_a_message_is_given_up_after_three_days_and_one_that_is_refused_after_three_tries(
    bench: Any, notes: Any
) -> None:
    bench.run()
    dead = notes(fails=lambda message: "down" if message.text == "run 1" else "")
    at = post(bench, dead)
    step(bench, at)
    bench.clock.wait(days=2)
    step(bench, at)
    assert dead.texts == []
    bench.clock.wait(days=2)
    step(bench, at)
    assert dead.texts == ["run 2"]
    picky = notes(name="picky", fails=lambda message: "400" if message.text == "run 1" else "", refuses=True)
    bench.clock.later *= 0
    at = post(bench, picky)
    for _ in range(REFUSALS):
        step(bench, at)
        bench.clock.wait(minutes=1)
    assert picky.texts == ["run 2"]
    state = state_of(bench.app.reader, "picky")
    assert state is not None
    assert state.given_up == 1


def test_a_follower_with_a_full_outbox_takes_in_nothing_more_and_loses_nothing(
    bench: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbupkeep.outbox.ROOM", room := 6)
    down = [True]
    receiver = notes(fails=lambda _: "down" if down[0] else "")
    at = post(bench, receiver)
    runs = room // 2 + 4
    for _ in range(runs):
        bench.run()
        step(bench, at)
    assert not at.has_news(bench.app.reader.newest())
    state = state_of(bench.app.reader, "notes")
    assert state is not None
    assert len(state.outbox) <= room + 1
    down[0] = False
    bench.clock.wait(hours=1)
    for _ in range(runs):
        step(bench, at)
    assert receiver.texts == [f"run {n + 1}" for n in range(2 * runs)]


def test_pruned_events_are_passed_over(bench: Any, notes: Any) -> None:
    bench.run()
    bench.clock.wait(days=2)
    newest = bench.app.reader.newest()
    bench.app.ledger.prune(bench.clock.now())
    receiver = notes()
    at = post(bench, receiver)
    assert not at.step(newest, ALWAYS)
    assert not at.has_news(newest)


def test_a_receiver_that_is_down_does_not_hold_up_another(bench: Any, notes: Any) -> None:
    dead, well = notes(name="dead", fails=lambda _: "down"), notes(name="well")
    served = following(bench, dead, well)
    served.start()
    bench.run()
    eventually("the other one has it", lambda: well.texts == ["run 1", "run 2"])
    eventually("the dead one was tried", dead.tried.is_set)
    served.close()


def test_a_fault_in_a_delivery_is_told_like_a_receiver_that_is_down(bench: Any, notes: Any) -> None:
    def broken(_: object) -> str:
        raise ZeroDivisionError

    bench.run()
    step(bench, post(bench, notes(fails=broken)))
    state = state_of(bench.app.reader, "notes")
    assert state is not None
    assert (state.tries, len(state.outbox)) == (1, 2)
    assert "ZeroDivisionError" in state.reason
    assert state.failing_since


def test_a_faulty_follower_does_not_hold_up_another(bench: Any, notes: Any, caplog: Any) -> None:
    tried = threading.Event()

    def broken(*_: object) -> Any:
        tried.set()
        raise ZeroDivisionError

    faulty, well = notes(name="faulty"), notes(name="well")
    faulty.fold = broken
    served = following(bench, faulty, well)
    served.start()
    bench.run()
    eventually("the other one has it", lambda: well.texts == ["run 1", "run 2"])
    eventually("the faulty one was tried", tried.is_set)
    served.close()


class Shaky:
    """A reader of a ledger that cannot be used at first."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.well = reader, threading.Event()

    def __getattr__(self, name: str) -> Any:
        if not self.well.is_set():
            raise LedgerError("the disk is full", hint="free some space")
        return getattr(self.reader, name)


def test_a_ledger_that_cannot_be_used_for_a_while_loses_nothing(
    bench: Any, notes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbupkeep.following.PAUSE", 0.05)
    monkeypatch.setattr("dbupkeep.following.LOOK", 0.05)
    receiver, shaky = notes(), Shaky(bench.app.reader)
    served = Following(**{**bench.parts(), "reader": shaky})
    served.use([receiver])
    served.start()
    bench.run()
    assert not served.holding()
    shaky.well.set()
    eventually("it was delivered", lambda: receiver.texts == ["run 1", "run 2"])
    shaky.well.clear()
    bench.run()
    shaky.well.set()
    eventually("so was the next", lambda: receiver.texts == ["run 1", "run 2", "run 3", "run 4"])
    served.close()


def test_the_end_of_a_service_takes_in_what_has_just_happened(bench: Any, notes: Any) -> None:
    receiver = notes()
    served = following(bench, receiver)
    served.start()
    eventually("it has the turn", served.holding)
    bench.run()
    served.close()
    assert receiver.texts == ["run 1", "run 2"]


def test_of_two_services_one_delivers_and_the_other_goes_on_after_its_end(bench: Any, notes: Any) -> None:
    ones, others = notes(), notes()
    one = following(bench, ones)
    one.start()
    eventually("the first has the turn", one.holding)
    other = following(bench, others, app=bench.open())
    other.start()
    bench.run()
    eventually("it was delivered", lambda: len(ones.delivered) == 2)
    assert not other.holding()
    one.close()
    bench.run()
    eventually("the other delivers", lambda: others.texts == ["run 3", "run 4"])
    other.close()
    assert len(ones.delivered) == 2


def test_a_service_that_shows_no_sign_of_life_gives_way(bench: Any) -> None:
    one, other = following(bench), following(bench)
    one._hold()
    assert one.holding()
    for _ in range(3):
        bench.clock.wait(seconds=LEASE / 3)
        one._hold()  # shows signs of life
        other._hold()
        assert (one.holding(), other.holding()) == (True, False)
    bench.clock.wait(seconds=LEASE * 0.8)
    other._hold()
    assert (one.holding(), other.holding()) == (
        False,
        False,
    )  # it does not trust itself any more before others take over
    bench.clock.wait(seconds=LEASE / 3)
    other._hold()
    assert other.holding()
    one._hold()
    assert not one.holding()


def test_who_was_overtaken_and_ends_leaves_the_turn_to_the_other(bench: Any) -> None:
    one, other = following(bench), following(bench)
    one._hold()
    other._hold()
    bench.clock.wait(seconds=LEASE)
    other._hold()
    one._give_up()  # without having looked again: the ledger could not be read then
    bench.clock.wait(seconds=1)
    one._hold()
    assert (one.holding(), other.holding()) == (False, True)


def test_a_service_that_was_overtaken_unawares_tells_nothing(bench: Any, notes: Any) -> None:
    """It still believes that it has the turn; what is kept has moved on, and that is seen before a message leaves."""
    ours, theirs = notes(), notes()
    stale, current = post(bench, ours), post(bench, theirs)
    step(bench, stale)
    step(bench, current)
    bench.run()
    step(bench, current)
    with pytest.raises(Overtaken):
        step(bench, stale)
    assert ours.delivered == []
    stale.forget()
    bench.run()
    step(bench, stale)
    assert (theirs.texts, ours.texts) == (["run 1", "run 2"], ["run 3", "run 4"])


def test_a_new_configuration_gives_followers_their_places_again(bench: Any, notes: Any) -> None:
    before, after, other = notes(), notes(), notes(name="other", from_start=False)
    served = following(bench, before)
    served.start()
    bench.run()
    eventually("it was delivered", lambda: len(before.delivered) == 2)
    served.use([after, other])
    eventually("the new one has begun", lambda: bench.app.reader.get("follower", "other"))
    bench.run()
    eventually("both have it", lambda: (len(after.delivered), len(other.delivered)) == (2, 2))
    served.use([])
    bench.run()
    served.close()
    assert (before.texts, after.texts, other.texts) == (["run 1", "run 2"], ["run 3", "run 4"], ["run 1", "run 2"])


SERVICE = """
import sys, threading
from dbupkeep.app import App
from dbupkeep.following import Following
from dbupkeep.follower import Message, Undelivered
from dbupkeep.events import ParentSettled

class Writes:
    name, from_start = "writes", True
    def fold(self, memory, events, now):
        return [Message(id=e.job_id, kind="ended", at=e.at) for e in events if isinstance(e.event, ParentSettled)]
    def deliver(self, message):
        print(message.id, flush=True)
        if sys.argv[2] == "hang":
            threading.Event().wait()

app = App(sys.argv[1])
following = Following(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
following.use([Writes()])
following.start()
threading.Event().wait()
"""


@pytest.fixture
def start(tmp_path: Path, bench: Any) -> Any:
    started: list[subprocess.Popen[str]] = []

    def begin(manner: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVICE), str(bench.path), manner], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        with process:
            process.wait()


@pytest.mark.slow
def test_after_kill_9_in_the_middle_of_a_delivery_the_next_start_goes_on_at_once(
    bench: Any, start: Callable[[str], Any]
) -> None:
    run = bench.run()
    first = start("hang")
    one = first.stdout.readline().strip()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = SystemClock().monotonic()
    second = start("well")
    lines = [second.stdout.readline().strip() for _ in range(2)]
    assert SystemClock().monotonic() - before < LEASE / 2
    assert lines[0] == one  # told again, as nobody knows whether it had arrived
    assert lines[1] == run.id
