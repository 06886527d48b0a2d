"""What every engine must do, as tests. An adapter's test file subclasses `EngineSuite` and gives it a laboratory.

Public: it sees ports and domain alone, so a third party's engine can be held to it too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import ClassVar, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from dbupkeep.definitions import Policy, Target
from dbupkeep.engine import Engine, Evidence, Leftover, Purpose, Scope, Session, Work
from dbupkeep.errors import Interrupted, Missing, Refused, UpkeepError
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts
from dbupkeep.jobs import Effective
from dbupkeep.operations import CATALOGUE, Operation
from dbupkeep.plans import Decision, PlanItem, Proposal, Source
from dbupkeep.progress import Progress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = 0.002
"""Seconds between samples: far closer than in production, to catch a step back."""


class Laboratory(Protocol):
    """What an adapter's test supplies. Every call makes a new database, and nobody else uses it."""

    @property
    def engine(self) -> Engine:
        """The engine under test."""
        ...

    def bloated(self) -> Target:
        """A database of some megabytes for which vacuum and analyze are due, with an index or more."""
        ...

    def missing(self) -> Target:
        """A target at which there is no database."""
        ...

    def exists(self, target: Target) -> bool:
        """Whether there is anything at all at a target's place."""
        ...

    def hostile(self, name: str) -> Target | None:
        """A database with a bloated table and an index of that name, and a table `victim`; None where it cannot be."""
        ...

    def victims(self, target: Target) -> int:
        """How many rows the table `victim` has, asked without the engine; raises when it is gone."""
        ...

    def fingerprint(self, target: Target) -> str:
        """Something that changes with every byte of the database, found from another process."""
        ...

    def replaced(self, target: Target) -> None:
        """Put another database in the target's place."""
        ...


class Recorder:
    """A `Report` that keeps everything, and samples from another thread."""

    def __init__(self, on_stage: Callable[[str], object] | None = None) -> None:
        """`on_stage` is called by the working thread at each stage."""
        self.seen: list[Progress] = []
        self.stages: list[str] = []
        self.notes: list[str] = []
        self.blocked = 0.0
        self.spent = 0.0  # what the rest of the run has cost others
        self._on_stage = on_stage
        self._sample: Callable[[], Progress | None] | None = None
        self._guard = threading.Lock()
        self._ended = threading.Event()

    def progress(self, progress: Progress) -> None:
        """Keep it."""
        self.seen.append(progress)

    def stage(self, name: str, message: str = "") -> None:
        """Keep its name, with what was said of it."""
        self.stages.append(f"{name}: {message}" if message else name)
        if self._on_stage:
            self._on_stage(name)

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)

    def follow(self, sample: Callable[[], Progress | None] | None) -> None:
        """Sample until told otherwise."""
        with self._guard:
            self._sample = sample

    def blocking(self, seconds: float) -> float:
        """Keep the most that was said."""
        self.blocked = max(self.blocked, seconds)
        return self.spent + self.blocked

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample while the work inside runs."""
        thread = threading.Thread(target=self._go_on)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _go_on(self) -> None:
        while not self._ended.wait(TICK):
            with self._guard:
                found = self._sample() if self._sample else None
            if found is not None:
                self.seen.append(found)


def item_of(proposal: Proposal, place: int = 0) -> PlanItem:
    """A proposal as the item of a plan."""
    values = structs.asdict(proposal)
    return PlanItem(**{**values, "decision": Decision.RUN}, place=place)


class EngineSuite:
    """Subclass it, and override the fixture `lab`. `gaps` says as data what a product cannot do."""

    gaps: ClassVar[frozenset[str]] = frozenset()
    """Any of: `interrupt` (a running statement cannot be stopped), `replace` (a target cannot be replaced),
    `shrink` (VACUUM makes room for new rows, and gives none back to the volume)."""

    @pytest.fixture
    def lab(self) -> Laboratory:
        """The laboratory of the engine under test."""
        raise NotImplementedError("override the fixture `lab`")

    # --- the catalogue ---

    def test_operations_are_explained(self, lab: Laboratory) -> None:
        """Each has a sentence, and default settings of its own."""
        assert lab.engine.operations
        for operation, sentence in lab.engine.operations.items():
            assert operation in CATALOGUE
            assert len(sentence) > 10
            assert operation in lab.engine.defaults

    # --- survey and plan ---

    def test_survey_changes_nothing(self, lab: Laboratory) -> None:
        """Not a byte, for any operation; and it says the same twice."""
        target = lab.bloated()
        before = lab.fingerprint(target)
        facts = survey(lab.engine, target)
        assert lab.fingerprint(target) == before
        again = survey(lab.engine, target)
        assert again.identity == facts.identity
        assert again.bytes == facts.bytes > 0
        assert lab.fingerprint(target) == before

    def test_every_operation_has_a_proposal(self, lab: Laboratory) -> None:
        """Also one that is not needed: it is there, with its reason."""
        facts = survey(lab.engine, lab.bloated())
        proposals = assess(lab.engine, facts)
        assert {proposal.operation for proposal in proposals} == set(lab.engine.operations)
        assert all(proposal.reason for proposal in proposals)
        for proposal in proposals:
            if proposal.decision is Decision.RUN:
                assert proposal.locks
                assert proposal.weight >= 1
                known = proposal.estimate.seconds is not None
                assert known == (proposal.estimate.seconds_source is not Source.UNKNOWN)

    def test_bloat_is_due_and_its_numbers_are_told(self, lab: Laboratory) -> None:
        """A bloated database wants VACUUM, for a reason with figures in it, and the gain is predicted."""
        (vacuum,) = due(lab.engine, lab.bloated(), Operation.VACUUM)
        assert vacuum.decision is Decision.RUN
        assert any(char.isdigit() for char in vacuum.reason)
        if "shrink" not in self.gaps:
            assert (vacuum.estimate.gain_bytes or 0) > 0

    def test_fresh_facts_have_not_drifted(self, lab: Laboratory) -> None:
        """A plan fits the database it was made of."""
        target = lab.bloated()
        facts = survey(lab.engine, target)
        for proposal in assess(lab.engine, facts, policy=Policy(force=True)):
            assert lab.engine.drift(item_of(proposal), survey(lab.engine, target)) == ""

    def test_replaced_database_has_drifted(self, lab: Laboratory) -> None:
        """Another database under the same name is said, and is not worked on."""
        if "replace" in self.gaps:
            pytest.skip("the product's databases cannot be replaced")
        target = lab.bloated()
        (proposal,) = due(lab.engine, target, Operation.VACUUM)
        lab.replaced(target)
        before = lab.fingerprint(target)
        assert lab.engine.drift(item_of(proposal), survey(lab.engine, target))
        with session(lab.engine, target) as at_work, pytest.raises(Refused):
            at_work.run(item_of(proposal), Recorder())
        assert lab.fingerprint(target) == before

    # --- work ---

    @pytest.mark.parametrize("operation", list(Operation))
    def test_operation_runs_and_is_verified(self, lab: Laboratory, operation: Operation) -> None:
        """Progress never goes back and is never complete before the end; evidence has both sides of everything."""
        if operation not in lab.engine.operations:
            pytest.skip(f"the product has no {operation}")
        target = lab.bloated()
        for proposal in due(lab.engine, target, operation, policy=Policy(force=True)):
            recorder, work, evidence = perform(lab.engine, target, item_of(proposal))
            fractions = [p.fraction for p in recorder.seen if p.fraction is not None]
            assert fractions == sorted(fractions)
            assert all(0 <= fraction < 1 for fraction in fractions)
            assert all(p.fraction is None or p.source is not Source.UNKNOWN for p in recorder.seen)
            assert work.seconds > 0
            assert evidence.effective in set(Effective)
            assert evidence.reason
            assert set(evidence.before) == set(evidence.after)
            assert "bytes" in evidence.after

    def test_vacuum_tells_the_truth(self, lab: Laboratory) -> None:
        """The first one gives space back; right afterwards nothing is due any more."""
        target = lab.bloated()
        (proposal,) = due(lab.engine, target, Operation.VACUUM)
        _, _, evidence = perform(lab.engine, target, item_of(proposal))
        assert evidence.effective is Effective.YES
        if "shrink" not in self.gaps:
            assert int(evidence.after["bytes"] or 0) < int(evidence.before["bytes"] or 0)
        assert evidence.work_bytes > 0
        assert {each.decision for each in propose(lab.engine, target, Operation.VACUUM)} == {Decision.SKIP}

    def test_stop_before_the_start_counts(self, lab: Laboratory) -> None:
        """A request that comes a moment too early is not lost, and is used up."""
        target = lab.bloated()
        (proposal,) = due(lab.engine, target, Operation.VACUUM)
        with session(lab.engine, target) as at_work:
            at_work.interrupt()
            with pytest.raises(Interrupted):
                at_work.run(item_of(proposal), Recorder())
            work = at_work.run(item_of(proposal), Recorder())
            assert at_work.verify(item_of(proposal), work).effective is Effective.YES

    @pytest.mark.parametrize("operation", [Operation.VACUUM, Operation.REINDEX, Operation.CHECK])
    def test_running_work_can_be_stopped(self, lab: Laboratory, operation: Operation) -> None:
        """Stopped at its first stage, it raises `Interrupted`, and the next attempt succeeds."""
        if "interrupt" in self.gaps or operation not in lab.engine.operations:
            pytest.skip("the product cannot do it")
        target = lab.bloated()
        found = due(lab.engine, target, operation, policy=Policy(force=True))
        if not found:  # what it wants is not on this server
            assert all(each.reason for each in propose(lab.engine, target, operation))
            return
        item = item_of(found[0])
        with session(lab.engine, target) as at_work:
            stopping = Recorder(on_stage=lambda _: at_work.interrupt())
            with pytest.raises(Interrupted):
                at_work.run(item, stopping)
        _, _, evidence = perform(lab.engine, target, item)
        assert evidence.effective is not Effective.NO

    # --- what is left, and ends ---

    def test_nothing_is_left_behind(self, lab: Laboratory) -> None:
        """Recovery of an attempt that left nothing is harmless, also twice; what is not ours is not removed."""
        target = lab.bloated()
        (proposal,) = due(lab.engine, target, Operation.VACUUM)
        perform(lab.engine, target, item_of(proposal), policy=Policy(backup_first=True))
        with session(lab.engine, target, tag="later") as at_work:
            assert list(at_work.leftovers()) == []
            first = at_work.recover(item_of(proposal), "lost")
            assert first == at_work.recover(item_of(proposal), "lost")
            foreign = Leftover(name="somebody else's", bytes=1, ours=True, explanation="claims to be ours")
            with pytest.raises(Refused):
                at_work.clean(foreign)

    def test_ends_are_harmless(self, lab: Laboratory) -> None:
        """Closing twice, and stopping what is closed."""
        at_work = lab.engine.connect(lab.bloated(), tag="ends")
        at_work.close()
        at_work.close()
        at_work.interrupt()

    @pytest.mark.parametrize("purpose", list(Purpose))
    def test_missing_database_is_said_and_not_made(self, lab: Laboratory, purpose: Purpose) -> None:
        """`Missing`, with what to do about it."""
        target = lab.missing()
        with pytest.raises(Missing) as raised:
            lab.engine.connect(target, tag="missing", purpose=purpose)
        assert raised.value.hint
        assert not lab.exists(target)

    # --- hostile names ---

    @given(name=st.one_of(
        st.sampled_from([
            'x"; DROP TABLE victim; --', "x'; DROP TABLE victim; --", "`; DROP TABLE victim; --", "a;b", "new\nline",
            "%s %(x)s {y}", "ключ — 鍵 🔑", "select", "[x]", "a.b", " ", "\\", "?1 :x @y $z", "\x1b[31mred", "main.t",
        ]),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40),
    ))  # fmt: skip
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_hostile_name_harms_nobody(self, lab: Laboratory, name: str) -> None:
        """Every operation on objects of that name works, and the table beside them keeps its rows."""
        target = lab.hostile(name)
        if target is None:
            return
        before = lab.victims(target)
        for operation in lab.engine.operations:
            for proposal in due(lab.engine, target, operation, policy=Policy(force=True)):
                _, _, evidence = perform(lab.engine, target, item_of(proposal))
                assert evidence.effective is not Effective.NO
        with session(lab.engine, target, purpose=Purpose.SURVEY) as looking:
            for named in ("", name, 'no such"; DROP TABLE victim; --'):
                try:
                    lab.engine.why(looking, named)
                except UpkeepError as error:
                    assert named not in {"", name}, error  # noqa: PT017 - only what is not there may raise
        assert lab.victims(target) == before


def survey(
    engine: Engine, target: Target, operations: tuple[Operation, ...] = (), policy: Policy | None = None
) -> DatabaseFacts:
    """Survey all operations of an engine, or those named."""
    with session(engine, target, purpose=Purpose.SURVEY) as looking:
        return engine.survey(looking, scope_of(engine, operations, policy))


def scope_of(engine: Engine, operations: tuple[Operation, ...] = (), policy: Policy | None = None) -> Scope:
    """A scope of all operations, or those named."""
    force = policy is not None and policy.force
    return Scope(operations=operations or tuple(engine.operations), now=NOW, policy=Policy(force=force))


def assess(
    engine: Engine, facts: DatabaseFacts, operations: tuple[Operation, ...] = (), policy: Policy | None = None
) -> list[Proposal]:
    """Proposals without any history."""
    return list(engine.assess(facts, policy or Policy(), History(), scope_of(engine, operations, policy)))


def propose(engine: Engine, target: Target, operation: Operation, policy: Policy | None = None) -> list[Proposal]:
    """Survey and decide on one operation."""
    return assess(engine, survey(engine, target, (operation,), policy), (operation,), policy)


def due(engine: Engine, target: Target, operation: Operation, policy: Policy | None = None) -> list[Proposal]:
    """Those that would run, without the one that counts what needs nothing."""
    return [each for each in propose(engine, target, operation, policy) if each.decision is Decision.RUN]


def perform(
    engine: Engine, target: Target, item: PlanItem, policy: Policy | None = None
) -> tuple[Recorder, Work, Evidence]:
    """Run and verify one item, sampled."""
    recorder = Recorder()
    if policy is not None:
        (proposal,) = due(engine, target, item.operation, policy)
        item = item_of(proposal)
    with session(engine, target) as at_work:
        with recorder.sampling():
            work = at_work.run(item, recorder)
        return recorder, work, at_work.verify(item, work)


@contextmanager
def session(
    engine: Engine, target: Target, *, tag: str = "suite", purpose: Purpose = Purpose.WORK
) -> Iterator[Session]:
    """A session that is closed in the end."""
    opened = engine.connect(target, tag=tag, purpose=purpose)
    try:
        yield opened
    finally:
        opened.close()
