"""Whether a planned item still fits the database. Pure."""

from __future__ import annotations

from dbupkeep.engines.sqlite import fingerprint, words
from dbupkeep.engines.sqlite.inquiry import names_in
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem

_GROWN = 2.0
_GROWN_BYTES = 64 * 1024 * 1024
"""Growth below either is ordinary life: estimates and space needs still hold roughly, and space is checked again."""

_STILL_WORTH = 0.5
"""A VACUUM is worth its plan while at least this part of the free pages is there."""


def drift(item: PlanItem, facts: DatabaseFacts) -> str:
    """Say what changed since the plan so that the item no longer holds; empty when it does."""
    schema = fingerprint.changes(str(item.evidence.get(fingerprint.NAME) or ""), facts)
    return _identity(item, facts) or schema or _growth(item, facts) or _need(item, facts)


def _identity(item: PlanItem, facts: DatabaseFacts) -> str:
    for name, what in (("device", "volume"), ("inode", "file"), ("application_id", "application id")):
        planned, now = item.evidence.get(name), facts.identity.get(name)
        if planned is not None and planned != now:
            return f"the file was replaced: its {what} was {planned} at the time of the plan and is {now} now"
    return ""


def _growth(item: PlanItem, facts: DatabaseFacts) -> str:
    planned, now = float(item.evidence.get("pages") or 0), facts.number("pages")
    grown = (now - planned) * facts.number("page_size")
    if planned and now > _GROWN * planned and grown > _GROWN_BYTES:
        return f"the database grew from {planned:,.0f} to {now:,.0f} pages ({words.size(grown)}) since the plan"
    return ""


def _need(item: PlanItem, facts: DatabaseFacts) -> str:
    check = {
        Operation.VACUUM: _vacuum,
        Operation.REINDEX: _reindex,
        Operation.ANALYZE: _statistics,
        Operation.OPTIMIZE: _statistics,
    }.get(item.operation)
    return check(item, facts) if check else ""


def _vacuum(item: PlanItem, facts: DatabaseFacts) -> str:
    for name, what in (("auto_vacuum", "auto_vacuum mode"), ("rowid_dependents", "list of what depends on rowids")):
        planned, now = item.evidence.get(name), facts.values.get(name)
        if planned is not None and now is not None and planned != now:
            return f"the {what} was {planned} at the time of the plan and is {now} now"
    planned, now_free = float(item.evidence.get("free_pages") or 0), facts.number("free_pages")
    if not item.options.get("forced") and now_free < _STILL_WORTH * planned:
        return f"{planned:,.0f} pages were free at the time of the plan, and {now_free:,.0f} are now"
    return ""


def _reindex(item: PlanItem, facts: DatabaseFacts) -> str:
    names = {entry.name for entry in facts.objects if entry.kind == "index"}
    if item.object and names and item.object not in names:
        return f"the index {item.object!r} is gone"
    return ""


def _statistics(item: PlanItem, facts: DatabaseFacts) -> str:
    planned = int(item.evidence.get("stale") or 0)
    if item.options.get("forced") or not planned or "stale_tables" not in facts.values:
        return ""
    left = len(names_in(facts, "stale_tables"))
    return "" if left else f"{planned:,} tables needed statistics at the time of the plan, and none does now"
