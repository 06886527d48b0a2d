"""CHECK: amcheck reads the B-trees of a table and compares their order; nothing is written, and nobody waits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.postgresql import maintain, needs, words
from dbupkeep.engines.postgresql.extensions import AMCHECK, READY
from dbupkeep.engines.postgresql.grouping import Due, Share, shares
from dbupkeep.engines.postgresql.inquiry import Draft, Inquiry
from dbupkeep.engines.postgresql.inquiry import propose as propose_draft
from dbupkeep.engines.postgresql.names import told
from dbupkeep.errors import Busy, Damaged, Gone, Kind, NotPermitted, Refused, UpkeepError, UsageError
from dbupkeep.facts import Value
from dbupkeep.jobs import Effective
from dbupkeep.plans import PlanItem, Proposal
from dbupkeep.progress import measured

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

METHODS = ("order", "heapallindexed")

_LOCKS = "ACCESS SHARE: readers and writers go on"
_SHOWN = 5


def propose(q: Inquiry) -> list[Proposal]:
    """A check is always due when it is asked for. Pure."""
    method = str(q.setting("method"))
    if method not in METHODS:
        raise UsageError(f"no check is called {method}", hint=f"set check.method to {' or '.join(METHODS)}")
    state = str(q.facts.values.get("amcheck") or "it is not known whether amcheck is there")
    tables = q.tables("table", "materialized view")
    if state != READY and "GRANT" not in state:
        return [q.skip(f"no index is checked: {state}", tables=len(tables))]
    last = {table.name: q.history.last(q.operation, table.name) for table in tables}
    dues = [
        Due(table=table, need=needs.Need(score=2.0, reason=_asked(last[table.name])), benefit=float(table.bytes or 0))
        for table in tables
        if not table.values.get("system")
    ]
    found = [_proposal(q, share, method, state) for share in shares(q, dues)]
    return found or [q.skip("there is no table with an index to check", tables=0)]


def _asked(last: Any) -> str:  # noqa: ANN401 - a `Measurement`, or none
    return f"asked for; the last one was on {last.at:%Y-%m-%d}" if last else "asked for; no earlier one is on record"


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Read every B-tree of the tables. Raises `NotPermitted`, `Busy`, `Gone`, `Interrupted`, ..."""
    maintain.fit_to_work(handle, item, writes=False)
    function = AMCHECK.callable(handle)
    if function is None:
        raise _lacking(AMCHECK.state(handle))
    trees = handle.rows("btrees", {"oids": maintain.oids_of(item)})
    if not trees and not maintain.states(handle, maintain.oids_of(item)):
        raise Gone(f"{item.object} is gone", why="it was dropped or made anew since the plan", hint="plan again")
    report.stage("checking", item.object)
    started = perf_counter()
    faults, put_off = _faults(handle, item, report, trees, function)
    total = sum(row["bytes"] for row in trees)
    return Work(
        seconds=perf_counter() - started,
        before={"bytes": total},
        values={"indexes": len(trees), "damaged": json.dumps(list(faults))},
        messages=tuple(f"{name}: {said}" for name, said in faults.items()),
        put_off=put_off,
    )


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Sound, or `Damaged` with the indexes that are not and what mends them."""
    names = json.loads(str(work.values.get("damaged") or "[]"))
    if names:
        shown = "; ".join(work.messages[:_SHOWN]) + (
            f"; and {len(work.messages) - _SHOWN} more" if len(work.messages) > _SHOWN else ""
        )
        raise Damaged(
            f"{words.listed(names)} of {handle.identity.key} {'is' if len(names) == 1 else 'are'} corrupt",
            why=shown,
            hint="REINDEX mends an index where its table is sound (`--operations reindex`); find out why it happened first:"
            " a changed collation, a bad disk, or a bug of the server",
            objects=tuple(names),
        )
    total = int(needs.number(work.before, "bytes"))
    count = int(needs.number(work.values, "indexes"))
    return Evidence(
        effective=Effective.YES,
        reason=f"{count} B-trees of {words.size(total)} are in order",
        before=work.before,
        after={"bytes": total},
        values={"indexes": count},
        work_bytes=total,
    )


def _faults(
    handle: Handle,
    item: PlanItem,
    report: Report,
    trees: Sequence[Mapping[str, Any]],
    function: Any,  # noqa: ANN401
) -> tuple[dict[str, str], dict[str, str]]:
    """What is wrong, by name of the index, and of a group which tables were locked; what is gone meanwhile is left out."""
    from psycopg import sql

    put_off: dict[str, str] = {}
    names = maintain.names_of(item)
    whole = item.method == METHODS[1]
    total, done, faults = sum(row["bytes"] for row in trees), 0, {}
    for row in trees:
        if names[row["table_oid"]] in put_off:
            continue
        statement = sql.SQL("SELECT {}({}::oid::regclass, {})").format(
            function, sql.Literal(row["oid"]), sql.Literal(whole)
        )
        try:
            handle.perform(statement, lock_wait=needs.number(item.options, "lock_wait"))
        except Damaged as error:
            faults[told(row["schema"], row["name"])] = error.why
        except Gone:
            continue
        except Busy as error:
            put_off[names[row["table_oid"]]] = error.message
            if len(put_off) == len(names):
                raise
        except UpkeepError as error:
            raise error.at(object=told(row["schema"], row["name"])) from error.__cause__
        done += row["bytes"]
        report.progress(measured(done, total, "bytes", stage="checking"))
    return faults, put_off


def _proposal(q: Inquiry, share: Share[Due], method: str, state: str) -> Proposal:
    evidence: dict[str, Value] = {"version_number": q.version.number, "bytes": share.bytes}
    lacking = f"; but {state}" if state != READY else ""
    return propose_draft(
        q,
        Draft(
            tables=share.tables,
            object=share.object,
            hold=share.hold,
            reason=share.reason + lacking,
            method=method,
            locks=_LOCKS,
            work_bytes=share.bytes,
            options={"lock_wait": q.threshold("lock_wait")},
            evidence=evidence,
            writes=False,
        ),
    )


def _lacking(state: str) -> UpkeepError:
    if "GRANT" in state:
        why, _, grant = state.partition(": ")
        return NotPermitted("amcheck may not be used", why=why, hint=grant)
    return Refused("amcheck is not there", why=state, hint="then plan again", kind=Kind.CAPABILITY)
