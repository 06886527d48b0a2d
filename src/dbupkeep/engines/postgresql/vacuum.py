"""VACUUM: make the room of dead rows usable again, mark pages all-visible, and freeze before the server has to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import blocking, maintain, needs, surroundings, words
from dbupkeep.engines.postgresql.choice import nothing_left
from dbupkeep.engines.postgresql.grouping import Due, Share, shares
from dbupkeep.engines.postgresql.inquiry import Draft, Inquiry
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.engines.postgresql.maintain import Manner, Row
from dbupkeep.engines.postgresql.options import buffer_limit, lacking, options_of
from dbupkeep.engines.postgresql.progress import of_vacuum
from dbupkeep.engines.postgresql.selection import cleanup, flag, wanted
from dbupkeep.engines.postgresql.versions import VACUUM_OPTIONS, Version
from dbupkeep.facts import Notice, ObjectFacts, Value
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem, Proposal

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle

_LOCKS = "SHARE UPDATE EXCLUSIVE on the table: readers and writers go on"
_TRUNCATES = "; at the end ACCESS EXCLUSIVE for a moment, to give empty pages back"

_ABOUT = 0.5
"""It worked when at most this share of the dead rows is left."""

_FREEZE_MIN_AGE = 50_000_000
"""The server's own default: rows younger than this many transactions stay as they are."""

_MUCH = 100.0
"""Dead rows up to which nothing is said of those that are left: what others do meanwhile leaves some."""


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by dead rows, inserted rows and age. Pure."""
    if not wanted(q.scope.config, "process_main") and not q.version.has(VACUUM_OPTIONS["process_main"]):
        return [q.skip(f"TOAST tables alone are vacuumed from PostgreSQL 16 on, and this is {q.version}")]
    tables = q.tables("table", "materialized view")
    dues = [due for table in tables if (due := _due(q, table)) is not None]
    allowed = [due for due in dues if due.table.values.get("permitted")]
    refused = [due for due in dues if not due.table.values.get("permitted") and not due.table.values.get("system")]
    proposals = [_proposal(q, share) for share in shares(q, allowed)]
    if refused:
        proposals.append(denied(q, refused))
    idle = int(q.facts.number("tables")) - len(allowed) - len(refused)
    if idle or not proposals:
        proposals.append(_idle(q, idle))
    return proposals


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Do it; see `maintain.run` for what it raises."""
    if item.options.get("truncate"):
        blocking.admit(item, report, f"VACUUM of {item.object}")
    if item.options.get("aggressive"):
        handle.rows(_AGGRESSIVE, {"age": str(int(item.options.get("freeze_min_age") or 0))})
    parts = _parts(handle, item)
    work = maintain.run(handle, item, report, _manner(item))
    return replace(work, before={**work.before, **parts})


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Compare dead rows, ages and sizes; where dead rows stayed, name who keeps them."""
    found = maintain.found_after(handle, item, work)
    after = {**maintain.summed(found.values()), **_parts(handle, item)}
    if any(row["vacuums"] for row in found.values()) or item.options.get("process_main") is False:
        effective, reason, notices = _judge(handle, item, work.before, after)
    else:
        effective, reason, notices = Effective.UNKNOWN, "the server has not counted it (track_counts is off)", ()
    return Evidence(
        effective=effective,
        reason=reason,
        before=work.before,
        after=after,
        values=maintain.compared(item, work, found),
        notices=notices,
        work_bytes=int(needs.number(work.before, "bytes")),
    )


def denied(q: Inquiry, refused: Sequence[Due]) -> Proposal:
    """One item for all that the role may not maintain: it fails, and says which and what to grant."""
    names = [due.table.name for due in refused]
    return propose_draft(
        q,
        Draft(
            tables=[due.table for due in refused],
            object=names[0] if len(names) == 1 else "tables of others",
            hold="tables of others",
            reason=f"{words.listed(names)}: {refused[0].need.reason}; {q.facts.values.get('role')} may not maintain them",
            method="plain",
            locks="none: the server refuses",
            options={"truncate": False, "lock_wait": q.threshold("lock_wait")},
            evidence={"version_number": q.version.number},
            notices=(
                Notice(
                    code="not_permitted",
                    message=f"{q.facts.values.get('role')} may not maintain {words.listed(names)}",
                    hint="GRANT MAINTAIN (from PostgreSQL 17 on), or be a member of their owner; and USAGE on their schemas",
                ),
            ),
        ),
    )


_AGGRESSIVE = """SELECT set_config('vacuum_freeze_table_age', '0', false),
set_config('vacuum_multixact_freeze_table_age', '0', false), set_config('vacuum_freeze_min_age', %(age)s, false),
set_config('vacuum_multixact_freeze_min_age', least(%(age)s::bigint, 5000000)::text, false)"""


def _manner(item: PlanItem) -> Manner:
    def build(tables: Sequence[sql.Composable], skip_locked: bool) -> sql.Composable:  # noqa: FBT001 - as `Build` says
        from psycopg import sql

        version = Version(int(needs.number(item.evidence, "version_number")))
        options = sql.SQL(", ".join(options_of(item.options, version, skip_locked=skip_locked)))
        return sql.SQL("VACUUM ({}) {}").format(options, sql.SQL(", ").join(tables))

    counter = "toast_vacuums" if item.options.get("process_main") is False else "vacuums"
    return Manner(verb="vacuuming", counter=counter, view="progress_vacuum", read=_reader, build=build)


def _parts(handle: Handle, item: PlanItem) -> dict[str, Value]:
    """Dead rows and age of what is vacuumed, where that is not all of a table: of the TOAST table, or without it."""
    alone = {name: item.options.get(name) is False for name in ("process_main", "process_toast")}
    if not any(alone.values()):
        return {}
    row = handle.row("parts", {"oids": maintain.oids_of(item)})
    prefix = "toast_" if alone["process_main"] else ""
    return {name: max(0, row[prefix + name] or 0) for name in ("dead", "age")}


def _reader(before: Mapping[int, Row]) -> Any:  # noqa: ANN401 - a `Read`
    block = 8192

    def read(row: Row) -> Any:  # noqa: ANN401 - a `Progress`
        state = before.get(int(row["relid"]), {})
        return of_vacuum(
            row,
            heap_pages=float(state.get("pages") or 0),
            index_pages=float(state.get("index_bytes") or 0) / block,
            dead=bool(state.get("dead")),
        )

    return read


def _due(q: Inquiry, table: ObjectFacts) -> Due | None:
    main, toast = wanted(q.scope.config, "process_main"), wanted(q.scope.config, "process_toast")
    if not main and not table.values.get("toast_oid"):
        return None
    need = needs.vacuum_need(
        table, q.facts.values, share=q.share("threshold_share"), freeze_share=q.share("freeze_share"), main=main,
        toast=toast,
    )  # fmt: skip
    if q.policy.force and not need.due:
        need = needs.Need(score=need.score, reason=f"asked for by force: {_measures(table)}")
    elif _by_age_alone(q):
        need = needs.Need(
            score=need.score, reason=f"chosen by age: {_measures(table)}", freeze=need.freeze and need.due
        )
    elif not need.due:
        return None
    dead = needs.number(table.values, "dead")
    rows = max(1.0, needs.number(table.values, "rows"), dead)
    return Due(table=table, need=need, benefit=(table.bytes or 0) * min(1.0, max(0.01, dead / rows)))


def _by_age_alone(q: Inquiry) -> bool:
    """As vacuumdb, which vacuums whatever is old enough when it is told an age."""
    return bool(q.scope.config.get("min_xid_age") or q.scope.config.get("min_mxid_age"))


def _measures(table: ObjectFacts) -> str:
    values = table.values
    return (
        f"{needs.number(values, 'dead'):,.0f} dead and {needs.number(values, 'inserted'):,.0f} inserted rows,"
        f" age {needs.number(values, 'age'):,.0f}"
    )


def _proposal(q: Inquiry, share: Share[Due]) -> Proposal:
    freeze = any(due.need.freeze and due.need.due for due in share.dues)
    options = _options(q, share, freeze=freeze)
    return propose_draft(
        q,
        Draft(
            tables=share.tables,
            object=share.object,
            hold=share.hold,
            reason=share.reason,
            method=_method(options, freeze=freeze),
            locks=_LOCKS + (_TRUNCATES if options["truncate"] else ""),
            strong=bool(options["truncate"]),
            work_bytes=share.bytes + sum(int(needs.number(t.values, "index_bytes")) for t in share.tables),
            options=options,
            evidence=_evidence(q, share),
            notices=_notices(q, share),
            defer=_in_the_way(q, share),
        ),
    )


def _options(q: Inquiry, share: Share[Due], *, freeze: bool) -> dict[str, Value]:
    given = q.scope.config
    options: dict[str, Value] = {
        "truncate": flag({"truncate": q.setting("truncate")}, "truncate"),
        "index_cleanup": cleanup(q.setting("index_cleanup")),
        "buffer_usage_limit": buffer_limit(q),
        "lock_wait": q.threshold("lock_wait"),
        "deadline": q.threshold("deadline"),
        "skip_locked": flag(given, "skip_locked"),
        "freeze": flag(given, "freeze"),
        "disable_page_skipping": flag(given, "disable_page_skipping"),
        "process_toast": wanted(given, "process_toast"),
        "process_main": wanted(given, "process_main"),
        "aggressive": freeze,
    }
    if given.get("parallel_workers") is not None:
        options["parallel_workers"] = int(str(given["parallel_workers"]))
    if freeze:
        parts = [(table, prefix) for table in share.tables for prefix in ("", "toast_")]
        limits = [needs.freeze_limit(table.values, q.facts.values, "age", prefix) for table, prefix in parts]
        options["freeze_min_age"] = int(min(_FREEZE_MIN_AGE, min(limits) * q.threshold("freeze_share") / 2))
    return options


def _method(options: Mapping[str, Value], *, freeze: bool) -> str:
    words_ = ["freeze" if options["freeze"] else "aggressive, to freeze" if freeze else "plain"]
    words_ += [] if options["process_main"] else ["TOAST tables alone"]
    words_ += [] if options["process_toast"] else ["without TOAST tables"]
    words_ += ["truncating the tail"] if options["truncate"] else []
    words_ += ["without indexes"] if options["index_cleanup"] == "off" else []
    return ", ".join(words_)


def _evidence(q: Inquiry, share: Share[Due]) -> dict[str, Value]:
    tables = share.tables
    return {
        "version_number": q.version.number,
        "dead": int(sum(needs.number(t.values, "dead") + needs.number(t.values, "toast_dead") for t in tables)),
        "inserted": int(sum(needs.number(t.values, "inserted") for t in tables)),
        "age": int(max(needs.number(t.values, "age") for t in tables)),
        "bytes": share.bytes,
        "vacuums": int(sum(needs.number(t.values, "vacuums") for t in tables)),
        "score": round(share.dues[0].need.score, 2),
    }


def _notices(q: Inquiry, share: Share[Due]) -> tuple[Notice, ...]:
    ages = {
        "transactions": _oldest(share, "age", "toast_age"),
        "multixacts": _oldest(share, "multixact_age", "toast_multixact_age"),
    }
    return (
        *lacking(q),
        *(
            Notice(
                code="wraparound",
                message=f"the oldest rows of {share.object} are {age:,.0f} {what} old; the server stops at 2.1 billion",
                hint=_AT_ONCE if age >= needs.FAILSAFE else "let this run now, and never rewrite the table before",
            )
            for what, age in ages.items()
            if age >= needs.WARN_AGE
        ),
    )


_AT_ONCE = "run it at once, and nothing else on this server: it takes no changes any more when that is reached"


def _oldest(share: Share[Due], *names: str) -> float:
    return max(needs.number(table.values, name) for table in share.tables for name in names)


def _in_the_way(q: Inquiry, share: Share[Due]) -> str:
    at_work: Mapping[str, str] = json.loads(str(q.facts.values.get("at_work") or "{}"))
    if len(share.dues) == 1:
        worker = at_work.get(str(share.tables[0].values.get("oid")))
        if worker and "wraparound" in worker:
            return f"{worker} is on it, and must not be disturbed"
    return "" if share.dues[0].need.freeze or q.policy.force else _still_kept(q, share)


def _still_kept(q: Inquiry, share: Share[Due]) -> str:
    """Whether the last run could not remove the dead rows, and the one who kept them is still there."""
    last = q.history.last(q.operation, share.object)
    if last is None or last.effective != Effective.NO.value or "horizon_holder" not in q.facts.values:
        return ""
    since = q.scope.now.timestamp() - needs.number(q.facts.values, "horizon_seconds", default=float("inf"))
    if since > last.at.timestamp():
        return ""
    return f"as in the last run, dead rows are kept by {q.facts.values['horizon_holder']}"


def _idle(q: Inquiry, idle: int) -> Proposal:
    share, freeze = words.share(q.share("threshold_share")), words.share(q.share("freeze_share"))
    total = int(q.facts.number("tables"))
    if not total:
        return q.skip(nothing_left(q.scope.config), tables=0, idle=0)
    return q.skip(
        f"{idle:,} of {total:,} tables need none: due from {share} of autovacuum's thresholds and {freeze} of the"
        f" freeze limit on; the oldest is {q.facts.number('oldest'):,.0f} transactions old",
        tables=total,
        idle=idle,
    )


def _judge(
    handle: Handle, item: PlanItem, before: Mapping[str, Value], after: Mapping[str, Value]
) -> tuple[Effective, str, tuple[Notice, ...]]:
    dead, left = needs.number(before, "dead"), needs.number(after, "dead")
    text = f"{dead:,.0f} dead rows became {left:,.0f}"
    if item.options.get("aggressive"):
        text += f", and the age {needs.number(before, 'age'):,.0f} became {needs.number(after, 'age'):,.0f}"
    if left > _MUCH and left > _ABOUT * dead:
        holders = surroundings.blockers(handle)
        why = (
            f"kept by {surroundings.holder(holders[0])}" if holders else "others made them meanwhile, or still see them"
        )
        notice = Notice(code="dead_rows_kept", message=f"{left:,.0f} dead rows could not be removed: {why}", hint="")
        return Effective.NO, f"{text}; {why}", (notice,)
    if item.options.get("aggressive") and needs.number(after, "age") >= needs.number(before, "age"):
        return Effective.NO, f"{text}: nothing was frozen", ()
    return Effective.YES, text, ()
