"""ANALYZE: fresh statistics for the planner, of partitioned tables too, which autovacuum never looks at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import maintain, needs, words
from dbupkeep.engines.postgresql.choice import nothing_left
from dbupkeep.engines.postgresql.grouping import Due, Share, of_one, shares
from dbupkeep.engines.postgresql.inquiry import Draft, Inquiry
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.engines.postgresql.maintain import Manner, Row
from dbupkeep.engines.postgresql.options import buffer_limit, buffers, lacking
from dbupkeep.engines.postgresql.progress import of_analyze
from dbupkeep.engines.postgresql.selection import flag
from dbupkeep.engines.postgresql.vacuum import denied
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.facts import ObjectFacts, Value
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem, Proposal

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle

_LOCKS = "SHARE UPDATE EXCLUSIVE on the table: readers and writers go on"

_SAMPLED_ROWS = 30_000
_PAGE = 8192
"""ANALYZE reads as many pages as it wants rows, at the default statistics target."""

STAGES = (1, 10, 0)
"""Statistics targets of `analyze_in_stages`, as vacuumdb takes them; 0 is the default."""


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by modified rows and missing statistics. Pure."""
    tables = q.tables("table", "materialized view", "partitioned table")
    dues = _without_covered(q, [due for table in tables if (due := _due(q, table)) is not None])
    allowed = [due for due in dues if due.table.values.get("permitted")]
    refused = [due for due in dues if not due.table.values.get("permitted") and not due.table.values.get("system")]
    whole_tables = [due for due in allowed if not due.table.values.get("columns")]
    of_columns = [of_one(due) for due in allowed if due.table.values.get("columns")]
    stages = flag(q.scope.config, "analyze_in_stages")
    if stages and len(whole_tables) > 1:
        whole = Share(object="", hold="", dues=tuple(sorted(whole_tables, key=lambda due: -due.need.score)))
        found = [whole, *of_columns]
    else:
        found = [*shares(q, whole_tables), *of_columns]
    proposals = [_proposal(q, share, stages=stages) for share in found]
    if refused:
        proposals.append(denied(q, refused))
    total = int(q.facts.number("tables") + q.facts.number("partitioned_tables"))
    idle = total - len(allowed) - len(refused)
    if idle or not proposals:
        proposals.append(_idle(q, total, idle))
    return proposals


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it; see `maintain.run` for what it raises."""
    if not item.options.get("stages"):
        return maintain.run(handle, item, report, _manner(item))
    done = []
    for target in STAGES:
        report.stage(f"statistics target {target or 'default'}")
        if target:
            handle.rows("SELECT set_config('default_statistics_target', %(target)s, false)", {"target": str(target)})
        else:
            handle.perform(_reset("default_statistics_target"), lock_wait=0)
        done.append(maintain.run(handle, item, report, _manner(item)))
    values = {**done[-1].values, "stages": len(done)}
    return replace(
        done[-1], seconds=sum(work.seconds for work in done), before=done[0].before, values=values,
        put_off={name: why for work in done for name, why in work.put_off.items()},
    )  # fmt: skip


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Compare the rows changed since the last ANALYZE; that it was done at all, `run` has seen by the counters."""
    found = maintain.found_after(handle, item, work)
    after = maintain.summed(found.values())
    changed, left = needs.number(work.before, "modified"), needs.number(after, "modified")
    counted = any(row["analyzes"] for row in found.values())
    if not counted:
        effective, reason = (
            Effective.UNKNOWN,
            "the server has not counted it (track_counts is off, or it does not count such tables)",
        )
    else:
        effective = Effective.YES
        reason = f"statistics are fresh: {changed:,.0f} rows had changed, and {left:,.0f} have since"
    return Evidence(
        effective=effective,
        reason=reason,
        before=work.before,
        after=after,
        values={**maintain.compared(item, work, found), **_of_columns(item, after)},
        work_bytes=_read(int(needs.number(work.before, "bytes")), int(needs.number(work.values, "tables", 1))),
    )


def _of_columns(item: PlanItem, after: Mapping[str, Value]) -> dict[str, Value]:
    """Kept with the measurement, so that the next plan knows what these columns have seen."""
    columns = item.options.get("columns")
    return {"columns": columns, "modified": after["modified"]} if columns else {}


def _reset(name: str) -> sql.Composable:
    from psycopg import sql

    return sql.SQL("RESET {}").format(sql.Identifier(name))


def _manner(item: PlanItem) -> Manner:
    def build(tables: Sequence[sql.Composable], skip_locked: bool) -> sql.Composable:  # noqa: FBT001 - as `Build` says
        from psycopg import sql

        version = Version(int(needs.number(item.evidence, "version_number")))
        only = sql.SQL("ONLY ") if item.options.get("only") else sql.SQL("")
        named = sql.SQL(", ").join([only + table for table in tables])
        if chosen := json.loads(str(item.options.get("columns") or "[]")):
            named += sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, chosen)))
        options = [*(["SKIP_LOCKED"] if skip_locked else []), *buffers(item.options, version)]
        if not options:
            return sql.SQL("ANALYZE {}").format(named)
        return sql.SQL("ANALYZE ({}) {}").format(sql.SQL(", ".join(options)), named)

    return Manner(
        verb="analyzing", counter="analyzes", view="progress_analyze", read=_reader, build=build, commits=True
    )


def _reader(before: Mapping[int, Row]) -> Any:  # noqa: ANN401 - a `Read`
    return of_analyze


def _due(q: Inquiry, table: ObjectFacts) -> Due | None:
    need = needs.analyze_need(_known(q, table), q.facts.values, share=q.share("threshold_share"))
    if flag(q.scope.config, "missing_stats_only"):
        if need.score < needs.MISSING:
            return None
    elif flag(q.scope.config, "analyze_in_stages") or (q.policy.force and not need.due):
        need = needs.Need(score=max(need.score, 0.0), reason=need.reason if need.due else "asked for, due or not")
    elif not need.due:
        return None
    return Due(table=table, need=need, benefit=min(need.score, needs.MISSING) * (1 + (table.bytes or 0) / 1e6))


def _known(q: Inquiry, table: ObjectFacts) -> ObjectFacts:
    """A table without the changes that our own last ANALYZE of it has seen, where the server does not know that itself."""
    last = q.history.last(q.operation, table.name)
    if last is not None and table.values.get("columns") == last.values.get("columns") is not None:
        # The server goes on counting after an ANALYZE of some columns; one of all makes it begin anew.
        seen, modified = needs.number(last.values, "modified"), needs.number(table.values, "modified")
        values = {**table.values, "modified": modified - seen if modified >= seen else modified}
        table = replace(table, values=values)
    if table.kind != "partitioned table" or last is None or last.at.timestamp() < needs.number(table.values, "anew_at"):
        return table
    values = {name: value for name, value in table.values.items() if name != "anew"}
    return ObjectFacts(name=table.name, kind=table.kind, bytes=table.bytes, values=values)


def _without_covered(q: Inquiry, dues: list[Due]) -> list[Due]:
    """Before 18, ANALYZE of a partitioned table goes on to its partitions: those are not analysed twice."""
    if q.version.has(18):
        return dues
    parents = {due.table.values.get("oid") for due in dues if due.table.kind == "partitioned table"}
    above = {table.values.get("oid"): table.values.get("parent") for table in q.facts.objects}

    def covered(oid: Value) -> bool:
        parent = above.get(oid)
        return parent is not None and (parent in parents or covered(parent))

    return [due for due in dues if not covered(due.table.values.get("oid"))]


def _proposal(q: Inquiry, share: Share[Due], *, stages: bool = False) -> Proposal:
    only = q.version.has(18) and any(table.kind == "partitioned table" for table in share.tables)
    columns = share.tables[0].values.get("columns") if len(share.tables) == 1 else None
    method = "in stages" if stages else "the table alone" if only else "sample"
    return propose_draft(
        q,
        Draft(
            tables=share.tables,
            object=share.object,
            hold=share.hold,
            reason=share.reason,
            method=f"columns {words.listed(json.loads(str(columns)))}" if columns else method,
            locks=_LOCKS,
            notices=lacking(q),
            work_bytes=sum(_read(table.bytes or 0, 1) for table in share.tables) * (len(STAGES) if stages else 1),
            options={
                "buffer_usage_limit": buffer_limit(q),
                "lock_wait": q.threshold("lock_wait"),
                "deadline": q.threshold("deadline"),
                "skip_locked": flag(q.scope.config, "skip_locked"),
                "only": only,
                "stages": stages,
                **({"columns": columns} if columns else {}),
            },
            evidence={
                "version_number": q.version.number,
                "modified": int(sum(needs.number(table.values, "modified") for table in share.tables)),
                "bytes": share.bytes,
                "analyzes": int(sum(needs.number(table.values, "analyzes") for table in share.tables)),
                "score": round(share.dues[0].need.score, 2),
            },
        ),
    )


def _read(size: int, tables: int) -> int:
    """About how many bytes an ANALYZE reads."""
    return min(size, tables * _SAMPLED_ROWS * _PAGE)


def _idle(q: Inquiry, total: int, idle: int) -> Proposal:
    if not total:
        return q.skip(nothing_left(q.scope.config), tables=0, idle=0)
    return q.skip(
        f"{idle:,} of {total:,} tables need none: due from {words.share(q.share('threshold_share'))} of"
        " autovacuum's threshold on, or without statistics",
        tables=total,
        idle=idle,
    )
