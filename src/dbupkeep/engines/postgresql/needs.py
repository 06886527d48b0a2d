"""The server's own formulas, asked earlier than autovacuum does: which table needs what, and how much. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from dbupkeep.engines.postgresql import words
from dbupkeep.facts import ObjectFacts, Value

FAILSAFE = 1_600_000_000
WARN_AGE = 1_000_000_000
"""Transaction ids of age: from the first on the server drops everything but freezing, from the second on we warn."""


_STATISTICS = "pg_catalog.pg_statistic"
"""The server keeps no statistics of its statistics, and passes over an ANALYZE of them."""

FLOOR = 0.1
"""No policy has tables due below this part of a threshold of autovacuum. Tables that are below the policy's are only counted."""


class Need(Struct, frozen=True, kw_only=True):
    """How much a table needs something: `score` is the measure over its threshold, due above 1."""

    score: float = 0.0
    reason: str = ""
    freeze: bool = False  # due by age: goes before everything else

    @property
    def due(self) -> bool:
        """Whether it is past its threshold."""
        return self.score > 1


def number(values: Mapping[str, Value], name: str, default: float = 0.0) -> float:
    """A value that is a number."""
    value = values.get(name)
    return float(value) if isinstance(value, (int, float)) else default


def vacuum_need(
    table: ObjectFacts, server: Mapping[str, Value], *, share: float, freeze_share: float, main: bool = True,
    toast: bool = True,
) -> Need:  # fmt: skip
    """The most pressing of: age, multixact age, dead rows, inserted rows; of the table, and of its TOAST table.

    `share` and `freeze_share` are the parts of autovacuum's own thresholds at which it is due; `main` and `toast` say
    which of both counts.
    """
    if table.kind == "partitioned table":
        return Need()
    found = [*_of_relation(table, server, "", share, freeze_share)] if main else []
    if toast and table.values.get("toast_oid"):
        found += _of_relation(table, server, "toast_", share, freeze_share)
    if not found:
        return Need()
    due = [need for need in found if need.due]
    # By rank, not by ratio: what is due by age is frozen, however many dead rows there are.
    return max(due or found, key=lambda need: (need.due and need.freeze, need.score))


def analyze_need(table: ObjectFacts, server: Mapping[str, Value], *, share: float) -> Need:
    """Modified rows since the last ANALYZE; or no statistics at all, though there are rows."""
    if table.name == _STATISTICS:
        return Need()
    values = table.values
    rows = max(0.0, number(values, "rows"))
    missing = int(number(values, "missing_statistics"))
    modified = number(values, "modified") + number(values, "anew")
    if missing and (rows > 0 or table.bytes or values.get("inherits")):
        return Need(score=MISSING, reason=f"statistics are missing ({missing} of its columns or expressions)")
    threshold = share * (_setting(values, server, "analyze_base") + _setting(values, server, "analyze_scale") * rows)
    # Counters are lost in a crash, so they do not tell where the statistics themselves may be looked at.
    blind = not server.get("sees_statistics") and not values.get("system")
    if blind and not values.get("analyzed") and (rows > 0 or modified > threshold):
        return Need(score=MISSING, reason="the server knows of no ANALYZE of it")
    what = "rows of its partitions changed" if table.kind == "partitioned table" else "rows changed"
    return _over(modified, threshold, f"{modified:,.0f} {what} since the last ANALYZE", share, server, "analyze")


MISSING = 1000.0
"""No statistics at all misleads the planner more than old ones do."""


def _of_relation(
    table: ObjectFacts, server: Mapping[str, Value], prefix: str, share: float, freeze_share: float
) -> list[Need]:
    values, where = table.values, "of its TOAST table " if prefix else ""
    rows = max(0.0, number(values, f"{prefix}rows"))
    dead, inserted = number(values, f"{prefix}dead"), number(values, f"{prefix}inserted")
    at = share * _dead_threshold(values, server, prefix, rows)
    found = [_over(dead, at, f"{dead:,.0f} dead rows {where}".rstrip(), share, server, "vacuum")]
    base = _setting(values, server, "insert_base", prefix)
    if base >= 0:
        unfrozen = 1.0
        if values.get("frozen_pages") is not None and not prefix and number(values, "pages") > 0:
            unfrozen = 1 - min(1.0, number(values, "frozen_pages") / number(values, "pages"))
        at = share * (base + _setting(values, server, "insert_scale", prefix) * rows * unfrozen)
        found.append(_over(inserted, at, f"{inserted:,.0f} rows inserted {where}".rstrip(), share, server, "vacuum"))
    for name, what in (("age", "transaction ids"), ("multixact_age", "multixact ids")):
        limit = freeze_limit(values, server, name, prefix)
        at, age = freeze_share * limit, number(values, f"{prefix}{name}")
        reason = f"its oldest {what} {where}are {age:,.0f} old, more than {words.share(freeze_share)} of the forced {limit:,.0f}"
        found.append(Need(score=age / at if at else 0.0, reason=reason, freeze=True))
    return found


def freeze_limit(values: Mapping[str, Value], server: Mapping[str, Value], name: str, prefix: str = "") -> float:
    """The age at which the server forces a vacuum; a table's own setting can only lower it."""
    setting = {"age": "freeze_max_age", "multixact_age": "multixact_freeze_max_age"}[name]
    return min(number(server, setting), _setting(values, server, setting, prefix))


def _dead_threshold(values: Mapping[str, Value], server: Mapping[str, Value], prefix: str, rows: float) -> float:
    at = _setting(values, server, "vacuum_base", prefix) + _setting(values, server, "vacuum_scale", prefix) * rows
    most = _setting(values, server, "vacuum_max", prefix, default=-1.0)
    return min(at, most) if most >= 0 else at


def _setting(
    values: Mapping[str, Value], server: Mapping[str, Value], name: str, prefix: str = "", default: float = 0.0
) -> float:
    """A table's own setting, else the server's; a TOAST table without its own takes the main table's, as there."""
    for key in dict.fromkeys((f"{prefix}set_{name}", f"set_{name}")):
        if values.get(key) is not None:
            return number(values, key)
    return number(server, name, default)


def _over(measure: float, at: float, what: str, share: float, server: Mapping[str, Value], kind: str) -> Need:
    if at <= 0:
        return Need(score=2.0 if measure > 0 else 0.0, reason=what)
    reason = f"{what}, more than {at:,.0f}, {words.share(share)} of the threshold of auto{kind}"
    return Need(score=measure / at, reason=reason)
