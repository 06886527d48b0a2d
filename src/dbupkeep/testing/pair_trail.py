"""The part of the pair suite about the audit trail: what is asked for stands in it with what it did, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from dbupkeep.audit import PRUNED, Act, Entry, acting, everything
from dbupkeep.clock import SystemClock
from dbupkeep.errors import IllegalTransition, UnknownName
from dbupkeep.ledger import Tx, verified
from dbupkeep.testing.pair_kit import TARGET, Handles, Planted, family, planted, together

ACT = Act(who="maria", what="look", on="x\0\ud800", target="\u00fc\u202e", detail={"n": 1, "text": 'a"b'})


def entries(pair: Handles) -> list[Entry]:
    """The whole trail, in order."""
    return list(everything(pair.ledger.acts_after))


def wrong(pair: Handles) -> list[str]:
    """What is wrong with the trail."""
    return list(verified(pair.ledger)[1])


def told(pair: Handles) -> list[tuple[str, str, str]]:
    """Who asked for what, with which outcome."""
    return [(entry.who, entry.what, entry.outcome) for entry in entries(pair)]


class TrailTests:
    """Entries come with their act, in one order, and can be checked."""

    def test_an_act_stands_in_the_trail_as_it_was_sealed(self, pair: Handles) -> None:
        """Whatever text it holds."""
        assert wrong(pair) == []
        pair.life.record(ACT)
        pair.life.record(ACT)
        first, second = entries(pair)
        assert (first.seq, second.seq, second.previous) == (1, 2, first.seal)
        assert first.detail == '{"n":1,"text":"a\\"b"}'
        assert wrong(pair) == []
        assert [entry.seq for entry in pair.ledger.acts()] == [2, 1]
        assert [entry.seq for entry in pair.ledger.acts(before=2, who="maria", what="look")] == [1]
        assert pair.ledger.acts(who="nobody") == pair.ledger.acts(what="nothing") == []

    def test_what_raises_leaves_no_entry(self, pair: Handles) -> None:
        """So none is in the trail whose act did not happen."""

        def work(tx: Tx) -> None:
            pair.ledger.record(tx, ACT)
            planted()

        with pytest.raises(Planted):
            pair.ledger.transact(work)
        assert entries(pair) == []
        assert pair.ledger.ends().last == 0

    def test_each_verb_that_somebody_asks_for_is_told(self, pair: Handles) -> None:
        """With the job, its database and its state before."""
        new = family("a", "b")
        with acting("maria"):
            pair.life.submit(new.submission)
            pair.life.pause(new.parent.id)
            pair.life.resume(new.parent.id, by="token ci")
            pair.life.limit(new.parent.id, at_a_time=2)
            pair.life.skip(new.children[1].id)
            pair.life.cancel(new.parent.id)
            pair.life.retry(new.parent.id)
            pair.life.stop(new.parent.id)
        verbs = ["run", "pause", "resume", "limit", "skip", "cancel", "retry", "stop"]
        who = ["maria", "maria", "token ci", *["maria"] * 5]
        assert told(pair) == [(name, verb, "done") for name, verb in zip(who, verbs, strict=True)]
        run, _, _, limit, skip, *_ = entries(pair)
        assert (run.on, run.target) == (new.parent.id, TARGET)
        assert limit.detail == '{"at_a_time":2,"before":"running"}'
        assert (skip.on, skip.target, skip.detail) == (new.children[1].id, TARGET, '{"before":"pending"}')
        assert wrong(pair) == []

    def test_what_is_refused_is_told_too(self, pair: Handles) -> None:
        """The act left nothing, its entry says why."""
        new = family("a")
        pair.life.submit(new.submission)
        with pytest.raises(IllegalTransition):
            pair.life.retry(new.parent.id, by="maria")
        with pytest.raises(UnknownName):
            pair.life.cancel("nothing", by="maria")
        assert [(entry.what, entry.on) for entry in entries(pair)] == [("retry", new.parent.id), ("cancel", "nothing")]
        assert all(entry.outcome.startswith("refused: ") for entry in entries(pair))

    def test_what_nobody_asked_for_is_not_told(self, pair: Handles) -> None:
        """A run's own work is in its events."""
        new = family("a", "b")
        pair.life.submit(new.submission)
        pair.finish(new.children[0])
        pair.life.settle(new.parent.id)
        assert entries(pair) == []

    def test_who_writes_at_once_makes_one_chain(self, pair: Handles, other: Handles) -> None:
        """From several processes, with acts that meet on the same jobs."""
        runs = [family("a"), family("b")]
        for run in runs:
            pair.life.submit(run.submission)

        def act(handles: Handles, order: int) -> None:
            for number in range(10):
                run = runs[(number + order) % 2]
                handles.life.pause(run.parent.id, by=f"{order}")
                handles.life.record(ACT)
                handles.life.resume(run.parent.id, by=f"{order}")

        together(lambda: act(pair, 0), lambda: act(other, 1), lambda: act(pair, 2), lambda: act(other, 3))
        assert [entry.seq for entry in entries(pair)] == list(range(1, 121))
        assert wrong(pair) == []

    def test_what_is_asked_for_during_a_look_is_no_fault(self, pair: Handles) -> None:
        """A service goes on meanwhile."""
        pair.life.record(ACT)
        ends, faults = verified(pair.ledger)
        pair.life.record(ACT)
        assert (ends.last, list(faults)) == (1, [])

    def test_a_document_changes_with_its_act_and_nobody_in_between(self, pair: Handles, other: Handles) -> None:
        """Of many who add one to a number at once, none is lost."""

        def add(handles: Handles) -> None:
            for _ in range(10):
                handles.life.amend("kind", "key", lambda doc: {"n": doc.get("n", 0) + 1}, ACT)

        together(lambda: add(pair), lambda: add(other))
        assert pair.reader.get("kind", "key") == {"n": 20}
        assert len(entries(pair)) == 20

        def broken(_: Mapping[str, Any]) -> Mapping[str, Any]:
            raise Planted

        with pytest.raises(Planted):
            pair.life.amend("kind", "key", broken, ACT)
        assert len(entries(pair)) == 20

    def test_a_pruned_trail_says_so_and_can_be_checked(self, pair: Handles) -> None:
        """What is left follows what went; once and again."""
        for _ in range(5):
            pair.life.record(ACT)
        assert pair.ledger.forget(SystemClock().now() - timedelta(days=1), by="retention") == 0
        assert len(entries(pair)) == 5
        for left in (6, 2):
            gone = pair.ledger.forget(SystemClock().now() + timedelta(days=1), by="retention")
            assert gone == left - 1
            (said,) = entries(pair)
            assert (said.who, said.what) == ("retention", PRUNED)
            assert wrong(pair) == []
        pair.life.record(ACT)
        assert [entry.seq for entry in entries(pair)] == [7, 8]
        assert wrong(pair) == []
