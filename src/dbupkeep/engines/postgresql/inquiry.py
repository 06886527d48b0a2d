"""What every proposal starts from: the facts, the policy with this engine's defaults, and the history. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from dbupkeep.definitions import Policy, Setting
from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql import needs
from dbupkeep.engines.postgresql.blocking import BUDGET, said
from dbupkeep.engines.postgresql.replicas import LIMITS
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts, Notice, ObjectFacts, Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, Proposal, Source, SpaceNeed

_STATEMENT: Mapping[str, Setting] = {"lock_wait": 10.0, "deadline": 0.0, "buffer_usage_limit": "128MB"}
_ROOM: Mapping[str, Setting] = {"undeclared_bytes": 10 << 30, "space_declared": 0}
_GROUPS: Mapping[str, Setting] = {"group_bytes": 1024 * 1024, "group_from": 16}

DEFAULTS: Mapping[Operation, Mapping[str, Setting]] = {
    Operation.VACUUM: {
        "threshold_share": 0.5,
        "freeze_share": 0.5,
        "truncate": False,
        "index_cleanup": "auto",
        **_STATEMENT,
        **_GROUPS,
        **LIMITS,
    },
    Operation.ANALYZE: {"threshold_share": 0.5, **_STATEMENT, **_GROUPS, **LIMITS},
    Operation.OPTIMIZE: {
        "gain_share": 0.3,
        "min_bytes": 1 << 30,
        **_ROOM,
        **LIMITS,
        "blocker_age": 60.0,
        "max_wait": 600.0,
        "cleanup_wait": 10.0,
        "deadline": 0.0,
        "lock_wait": 0.5,
        "lock_tries": 10,
        "lock_budget": 60.0,
    },
    Operation.CHECK: {"method": "order", "lock_wait": 10.0, **_GROUPS},
    Operation.REINDEX: {
        "gain_share": 0.3,
        "min_bytes": 64 * 1024 * 1024,
        **_ROOM,
        **LIMITS,
        "blocker_age": 60.0,
        "max_wait": 600.0,
        "cleanup_wait": 10.0,
        "deadline": 0.0,
        "lock_wait": 0.5,
        "lock_tries": 10,
        **_GROUPS,
    },
}
"""Shares are parts of autovacuum's own thresholds; sizes in bytes, waits and deadlines in seconds (0: none).

From `group_from` tables (or indexes) below `group_bytes` on, small ones share a job, and where that can be, statements.
"""

RATES: Mapping[Operation, float] = {
    Operation.VACUUM: 150e6,
    Operation.ANALYZE: 200e6,
    Operation.REINDEX: 100e6,
    Operation.CHECK: 200e6,
    Operation.OPTIMIZE: 50e6,
}
"""Bytes a second to expect before there is any history."""

CONSENT_LOCK = "exclusive_lock"
CONSENT_DROP = "drop_leftovers"
"""The effects that a policy may agree to."""

BUCKETS = 4
"""Small tables are maintained in so many groups: enough to run side by side, few enough to cost nothing."""

SMALL = 1024 * 1024
"""Bytes up to which a table's hold is that of its group. No setting: two runs must agree on it."""


class Inquiry(Struct, frozen=True, kw_only=True):
    """One operation on one database, to be decided."""

    operation: Operation
    facts: DatabaseFacts
    policy: Policy
    history: History
    scope: Scope

    def setting(self, name: str) -> Setting:
        """What the step says, else the policy's threshold, else the engine's."""
        return setting_of(self.operation, name, self.policy, self.scope.config)

    def threshold(self, name: str) -> float:
        """The same, of a setting that is a number."""
        value = self.setting(name)
        return float(value) if isinstance(value, (int, float)) else 0.0

    def share(self, name: str) -> float:
        """A part of the server's own threshold; the survey looks no lower than its floor."""
        return max(needs.FLOOR, self.threshold(name))

    @property
    def version(self) -> Version:
        """The server's."""
        return Version(int(self.facts.number("version_number")))

    @property
    def standby(self) -> bool:
        """Whether nothing may be changed there."""
        return bool(self.facts.values.get("standby"))

    def tables(self, *kinds: str) -> list[ObjectFacts]:
        """The tables of some kinds."""
        return [table for table in self.facts.objects if table.kind in kinds]

    def estimate(self, work_bytes: int, *, object: str = "", gain: int | None = None) -> Estimate:
        """Expected seconds for so many bytes."""
        seconds, source = self.history.seconds(
            self.operation, work_bytes, object=object, default_rate=RATES.get(self.operation)
        )
        return Estimate(
            seconds=seconds,
            seconds_source=source,
            gain_bytes=gain,
            gain_source=Source.UNKNOWN if gain is None else Source.ESTIMATED,
        )

    def evidence(self, **more: Value) -> dict[str, Value]:
        """What makes it this database."""
        return {
            "system": self.facts.identity.get("system"),
            "database_oid": self.facts.identity.get("database_oid"),
            **more,
        }

    def skip(self, reason: str, **evidence: Value) -> Proposal:
        """Nothing to do, and why."""
        return Proposal(
            operation=self.operation,
            decision=Decision.SKIP,
            reason=reason,
            hold=NOBODYS,
            evidence=self.evidence(**evidence),
        )


def setting_of(operation: Operation, name: str, policy: Policy, config: Mapping[str, Setting]) -> Setting:
    """What a step says, else its policy's threshold, else the engine's."""
    given = config.get(name)
    return policy.setting(operation, name, DEFAULTS.get(operation, {}).get(name)) if given is None else given


def floor_of(scope: Scope) -> float:
    """The part of every threshold of autovacuum below which a table is due for none of the operations that are asked for."""
    shares = [
        share
        for operation in scope.operations
        for name in ("threshold_share", "freeze_share")
        if isinstance(share := setting_of(operation, name, scope.policy, scope.config), (int, float))
    ]
    return max(needs.FLOOR, min(shares, default=needs.FLOOR))


NOBODYS = "nothing"
"""The hold of what does not run; no table is called so, for it has no dot."""


class Draft(Struct, frozen=True, kw_only=True):
    """A proposal to run for some tables, before what is in its way is looked at."""

    tables: Sequence[ObjectFacts]
    reason: str
    locks: str
    method: str = ""
    object: str = ""
    hold: str = ""
    work_bytes: int = 0
    options: Mapping[str, Value] = field(default_factory=dict)
    evidence: Mapping[str, Value] = field(default_factory=dict)
    covers: Mapping[Operation, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    space: tuple[SpaceNeed, ...] = ()
    gain: int | None = None
    defer: str = ""  # what is in its way
    writes: bool = True
    strong: bool = False  # whether it takes a lock that keeps readers or writers out


def propose(q: Inquiry, draft: Draft) -> Proposal:
    """A proposal to run, or to come back for."""
    estimate = q.estimate(draft.work_bytes, object=draft.object, gain=draft.gain)
    group = len(draft.tables) > 1
    kept_out = q.standby and draft.writes
    defer = "the server is a standby, which takes no changes" if kept_out else draft.defer
    return Proposal(
        operation=q.operation,
        object=draft.object,
        decision=Decision.SKIP if kept_out else Decision.DEFER if defer else Decision.RUN,
        reason=f"{draft.reason}; but {defer}" if defer else draft.reason,
        method=draft.method,
        hold=draft.hold,
        covers={} if defer else draft.covers,
        members=tuple(table.name for table in draft.tables) if group else (),
        options={
            "forced": q.policy.force,
            **(_courtesy(q) if draft.writes else {}),
            **draft.options,
        },
        evidence=q.evidence(
            oids=json.dumps([int(needs.number(table.values, "oid")) for table in draft.tables]), **draft.evidence
        ),
        estimate=estimate,
        locks=draft.locks + (said(q.policy.blocking_budget.total_seconds()) if draft.strong else ""),
        space=draft.space,
        notices=draft.notices,
        weight=max(1, int(1000 * (estimate.seconds or 0))),
    )


def _courtesy(q: Inquiry) -> dict[str, Value]:
    """What every operation that writes keeps to: how long others may wait for the run, how far replicas may be behind."""
    return {BUDGET: q.policy.blocking_budget.total_seconds(), **{name: q.threshold(name) for name in LIMITS}}


def hold_of(table: ObjectFacts) -> str:
    """What excludes other maintenance of a table: its name, or for a small one the name of its group."""
    if (table.bytes or 0) <= SMALL and table.kind != "partitioned table":
        return group_of(table)
    return table.name


def group_of(table: ObjectFacts) -> str:
    """The group of a small table: the same in every run, whatever else is there."""
    return f"small tables {1 + zlib.crc32(table.name.encode()) % BUCKETS}"
