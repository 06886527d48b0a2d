"""A plan: what will be done to one database, why, and at what cost; stored once and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from msgspec import Struct, field

from dbupkeep.definitions import ErrorPolicy, Policy, Target
from dbupkeep.facts import DatabaseFacts, Notice, Value
from dbupkeep.operations import Operation


class Decision(StrEnum):
    """What the plan says of an operation."""

    RUN = "run"
    SKIP = "skip"  # not needed, redundant, or excluded by policy
    DEFER = "defer"  # needed, but something is in the way now


class Source(StrEnum):
    """Where a number comes from; a number without a source is not shown."""

    MEASURED = "measured"
    HISTORY = "history"  # this target's own past runs
    ESTIMATED = "estimated"  # a formula or another target's rate
    UNKNOWN = "unknown"


class Estimate(Struct, frozen=True, kw_only=True):
    """What an operation is expected to take and to give."""

    seconds: float | None = None
    seconds_source: Source = Source.UNKNOWN
    gain_bytes: int | None = None
    gain_source: Source = Source.UNKNOWN
    stall_seconds: float | None = None  # how long writers would wait


class SpaceNeed(Struct, frozen=True, kw_only=True):
    """Bytes wanted on one volume for the time of the work."""

    purpose: str  # `temporary file`, `journal`
    folder: str
    needed: int
    available: int | None

    @property
    def enough(self) -> bool:
        """Whether the volume has it, as far as can be known."""
        return self.available is None or self.available >= self.needed


class Proposal(Struct, frozen=True, kw_only=True):
    """What an engine proposes for one operation on one object (or on the whole database).

    `holds` names what the work needs for itself, within the target: two items whose holds meet never run together.
    `covers` names operations that this one makes redundant on the same hold, with the reason a person reads.
    """

    operation: Operation
    object: str = ""  # empty: the whole database
    decision: Decision
    reason: str  # a sentence with the numbers in it
    method: str = ""  # how the engine will do it: `in place`, `incremental`
    hold: str = ""  # the table (or file) whose maintenance excludes others; empty: the whole target
    covers: Mapping[Operation, str] = field(default_factory=dict)
    members: tuple[str, ...] = ()  # of a group: its objects
    options: Mapping[str, Value] = field(default_factory=dict)  # what `run` needs to know beside the item
    evidence: Mapping[str, Value] = field(default_factory=dict)  # the facts that the decision rests on
    estimate: Estimate = field(default_factory=Estimate)
    locks: str = ""  # what others will notice
    space: tuple[SpaceNeed, ...] = ()
    notices: tuple[Notice, ...] = ()
    weight: int = 1  # share of the parent's progress: milliseconds expected, at least 1


class PlanItem(Proposal, frozen=True, kw_only=True):
    """A proposal with its place in the plan: a child job is this item's life."""

    place: int
    after: tuple[int, ...] = ()  # places of items that must have ended
    gates: tuple[int, ...] = ()  # those of them that must have completed


class Plan(Struct, frozen=True, kw_only=True):
    """All items for one database."""

    id: str
    name: str
    created_at: datetime
    target: Target
    operations: tuple[Operation, ...]
    policy: Policy
    errors: ErrorPolicy
    facts: DatabaseFacts
    settings: Mapping[str, Mapping[str, Value]]  # the thresholds in force, defaults included, by operation
    items: tuple[PlanItem, ...]
    notices: tuple[Notice, ...] = ()
    step: str = ""
    config: Mapping[str, Value] = field(default_factory=dict)  # the step's own: what the survey looked at
    lane: str = "default"
    fleet: bool = False  # surveyed as one of many, by the thresholds of a fleet

    @property
    def due(self) -> tuple[PlanItem, ...]:
        """The items that would run."""
        return tuple(item for item in self.items if item.decision is Decision.RUN)


class RunPlan(Struct, frozen=True, kw_only=True):
    """Plans of several databases that are carried out as one run."""

    id: str
    name: str
    created_at: datetime
    plans: tuple[Plan, ...]
    idle: int = 0  # databases looked at that need nothing, and have no plan of their own
    problems: tuple[Notice, ...] = ()  # databases that cannot be worked on
    errors: ErrorPolicy = field(default_factory=ErrorPolicy)
    lane: str = "default"
