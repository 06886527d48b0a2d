"""What every proposal starts from: the facts, the policy with this engine's defaults, and the history. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from dbupkeep.definitions import Policy, Setting
from dbupkeep.engine import Scope
from dbupkeep.engines.sqlite import space, words
from dbupkeep.engines.sqlite.space import Room
from dbupkeep.errors import UsageError
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts, Notice, Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, Proposal, Source, SpaceNeed

STALL_CONSENT = "long_stall"
RENUMBER_CONSENT = "renumber_rowids"

_LOCKS: Mapping[str, Setting] = {"lock_wait": 0.5, "lock_tries": 10}

DEFAULTS: Mapping[Operation, Mapping[str, Setting]] = {
    Operation.VACUUM: {
        "min_share": 0.25,
        "min_bytes": 1024 * 1024,
        "fleet_min_share": 0.25,
        "fleet_min_pages": 16,
        "new_file": True,
        "new_file_min_bytes": 16 * 1024 * 1024,
        **_LOCKS,
    },
    Operation.ANALYZE: {"analysis_limit": 400, **_LOCKS},
    Operation.REINDEX: {**_LOCKS},
    Operation.OPTIMIZE: {"mask": 0x10012, **_LOCKS},
    Operation.CHECK: {"method": "quick_check", "max_faults": 100, **_LOCKS},
}
"""Sizes in bytes, shares from 0 to 1, waits in seconds; each lock is tried `lock_tries` times for `lock_wait`."""

RATES: Mapping[Operation, float] = {
    Operation.VACUUM: 100e6,
    Operation.ANALYZE: 400e6,
    Operation.REINDEX: 60e6,
    Operation.OPTIMIZE: 400e6,
    Operation.CHECK: 150e6,
}
"""Bytes a second to expect before there is any history; a cautious half of what a plain disk did in the benchmark."""


class Inquiry(Struct, frozen=True, kw_only=True):
    """One operation on one database, to be decided."""

    operation: Operation
    facts: DatabaseFacts
    policy: Policy
    history: History
    scope: Scope

    def setting(self, name: str) -> Setting:
        """The policy's threshold, else the engine's."""
        return self.policy.setting(self.operation, name, DEFAULTS[self.operation][name])

    def threshold(self, name: str) -> float:
        """The same, of a threshold that is a number. Raises `UsageError`."""
        return number(self.operation, name, self.setting(name))

    def switch(self, name: str) -> bool:
        """The same, of one that is on or off. Raises `UsageError`: a slip of the pen must not be either."""
        value = self.setting(name)
        if isinstance(value, bool):
            return value
        raise UsageError(f"{self.operation}.{name} is {value!r}", why="it is either true or false")

    def count(self, name: str) -> int:
        """A whole number of the survey."""
        return int(self.facts.number(name))

    def names(self, name: str) -> list[str]:
        """A list of names of the survey."""
        return names_in(self.facts, name)

    @property
    def others(self) -> bool:
        """Whether anybody else has the file open, as far as is known."""
        return self.count("openers") > 0

    @property
    def wal(self) -> bool:
        """Whether the database is in WAL mode."""
        return self.facts.values.get("journal_mode") == "wal"

    def estimate(self, work_bytes: int, *, object: str = "", gain: int | None = None) -> Estimate:
        """Expected seconds for so many bytes; the writers' stall is as long, since the write lock is held throughout."""
        seconds, source = self.history.seconds(
            self.operation, work_bytes, object=object, default_rate=RATES[self.operation]
        )
        return Estimate(
            seconds=seconds,
            seconds_source=source,
            gain_bytes=gain,
            gain_source=Source.UNKNOWN if gain is None else Source.ESTIMATED,
            stall_seconds=seconds,
        )

    def space(self, *, temp: int = 0, journal: int = 0, twin: int = 0) -> tuple[SpaceNeed, ...]:
        """What the work wants on each volume; a backup copy is as big as the live pages."""
        values = self.facts.values
        room = Room(
            folder=str(values["folder"]),
            folder_free=self.count("folder_free"),
            temp=str(values["temp"]),
            temp_free=self.count("temp_free"),
            shared=bool(values["one_volume"]),
        )
        copy = self.count("live_bytes") if self.policy.backup_first else 0
        return space.needs(room, temp=temp, journal=journal, copy=copy, twin=twin, factor=self.policy.space_factor)

    def options(self, **more: Value) -> dict[str, Value]:
        """What `run` needs of the policy; no wait for a lock is longer than writers may be kept waiting."""
        stall = self.policy.max_stall.total_seconds()
        return {
            "lock_wait": min(self.threshold("lock_wait"), stall),
            "lock_tries": int(self.threshold("lock_tries")),
            "max_stall": stall,
            "space_factor": self.policy.space_factor,
            "backup": self.policy.backup_first,
            "forced": self.policy.force,
            **more,
        }

    def evidence(self, **more: Value) -> dict[str, Value]:
        """What makes it this database, and its size at the time of the plan."""
        return {
            "device": self.facts.identity.get("device"),
            "inode": self.facts.identity.get("inode"),
            "application_id": self.facts.identity.get("application_id"),
            "pages": self.count("pages"),
            **more,
        }

    def skip(self, reason: str, *notices: Notice) -> Proposal:
        """Nothing to do, and why."""
        return Proposal(
            operation=self.operation,
            decision=Decision.SKIP,
            reason=reason,
            evidence=self.evidence(),
            notices=notices,
        )


class Draft(Struct, frozen=True, kw_only=True):
    """A proposal to run, before what is in its way is looked at."""

    reason: str
    locks: str
    estimate: Estimate
    method: str = ""
    object: str = ""
    space: tuple[SpaceNeed, ...] = ()
    options: Mapping[str, Value] = field(default_factory=dict)
    evidence: Mapping[str, Value] = field(default_factory=dict)
    covers: Mapping[Operation, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    stalls: bool = True  # whether writers wait as long as the estimate says


def decide(q: Inquiry, draft: Draft) -> Proposal:
    """Run it, or defer it for what is in the way: something missing, or a stall that others would notice."""
    way = _lacks(q) or _damaged(q) or (_stalls(q, draft) if draft.stalls else "")
    short = () if all(need.enough for need in draft.space) else (_no_space(draft.space),)
    milliseconds = 1000 * (draft.estimate.seconds or 0)
    return Proposal(
        operation=q.operation,
        object=draft.object,
        decision=Decision.DEFER if way else Decision.RUN,
        reason=f"{draft.reason}; but {way}" if way else draft.reason,
        method=draft.method,
        covers={} if way else draft.covers,
        options=draft.options,
        evidence=draft.evidence,
        estimate=draft.estimate,
        locks=draft.locks,
        space=draft.space,
        notices=draft.notices + short,
        weight=max(1, int(milliseconds)),
    )


def number(operation: Operation, name: str, value: Setting) -> float:
    """A threshold as a number. Raises `UsageError`: a slip of the pen must not become 0, which is always due."""
    if isinstance(value, (int, float)) and value >= 0:
        return float(value)
    raise UsageError(
        f"{operation}.{name} is {value!r}",
        why="it must be a number that is not below 0, a size, a share or a duration",
        hint=f"its default is {DEFAULTS[operation][name]}",
    )


def too_long(q: Inquiry, seconds: float | None) -> bool:
    """Whether others would be kept out for longer than the policy allows."""
    return q.others and (seconds or 0) > q.policy.max_stall.total_seconds() and STALL_CONSENT not in q.policy.consents


def names_in(facts: DatabaseFacts, name: str) -> list[str]:
    """A list of names that a survey wrote as JSON."""
    value: Any = json.loads(str(facts.values.get(name) or "[]"))
    return [str(item) for item in value]


def _lacks(q: Inquiry) -> str:
    lacking = q.facts.values.get("lacking")
    return f"{lacking} is missing here, without which SQLite cannot do it" if lacking else ""


def _damaged(q: Inquiry) -> str:
    """Nothing is written after a check that found more than indexes damaged, until another one passes."""
    last = q.history.last(Operation.CHECK)
    gated = Operation.CHECK in {q.operation, *q.scope.operations}  # then this run's own check decides
    if gated or q.policy.force or last is None or last.values.get("damaged") != "[]":
        return ""
    return (
        f"the check of {last.at:%Y-%m-%d %H:%M} found damage that REINDEX does not repair: restore a backup, and check"
        " again (--operations check)"
    )


def _stalls(q: Inquiry, draft: Draft) -> str:
    expected = draft.estimate.stall_seconds
    if not too_long(q, expected):
        return ""
    return (
        f"writers would have to wait about {words.duration(expected or 0)}, longer than the allowed"
        f" {words.duration(q.policy.max_stall.total_seconds())}, and the file is open in"
        f" {q.facts.values.get('openers_named')} (raise max_stall, close that program, or consent to {STALL_CONSENT})"
    )


def _no_space(wanted: tuple[SpaceNeed, ...]) -> Notice:
    lacks = "; ".join(
        f"{need.folder} needs {words.size(need.needed)} for the {need.purpose} and has {words.size(need.available or 0)}"
        for need in wanted
        if not need.enough
    )
    temporary = any(need.purpose.startswith("temporary") for need in wanted if not need.enough)
    hint = "free space there, or set SQLITE_TMPDIR to a roomier folder" if temporary else "free space there"
    return Notice(code="no_space", message=lacks, hint=hint)
