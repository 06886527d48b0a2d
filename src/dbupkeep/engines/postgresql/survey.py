"""Reads what a plan needs to know, in a few catalogue queries; sizes only of tables that may be candidates."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql import choice, near, needs, surroundings, words
from dbupkeep.engines.postgresql.inquiry import floor_of
from dbupkeep.engines.postgresql.maintain import oids_of
from dbupkeep.engines.postgresql.names import told
from dbupkeep.engines.postgresql.selection import Selection, selection
from dbupkeep.errors import Missing, UsageError
from dbupkeep.facts import DatabaseFacts, ObjectFacts, Value
from dbupkeep.operations import Operation

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle
    from dbupkeep.engines.postgresql.near import Near

ENGINE = "postgresql"

KINDS = {"r": "table", "m": "materialized view", "p": "partitioned table"}

_SETTINGS = {
    "autovacuum_vacuum_threshold": "set_vacuum_base",
    "autovacuum_vacuum_scale_factor": "set_vacuum_scale",
    "autovacuum_vacuum_max_threshold": "set_vacuum_max",
    "autovacuum_vacuum_insert_threshold": "set_insert_base",
    "autovacuum_vacuum_insert_scale_factor": "set_insert_scale",
    "autovacuum_analyze_threshold": "set_analyze_base",
    "autovacuum_analyze_scale_factor": "set_analyze_scale",
    "autovacuum_freeze_max_age": "set_freeze_max_age",
    "autovacuum_multixact_freeze_max_age": "set_multixact_freeze_max_age",
}
"""A table's own settings that the formulas use."""

_ALWAYS = ("oid", "rows", "pages", "age", "permitted")
_COUNTED = (
    "multixact_age", "frozen_pages", "dead", "modified", "inserted", "vacuums", "analyzes",
    "toast_oid", "toast_rows", "toast_pages", "toast_age", "toast_multixact_age", "toast_dead", "toast_inserted",
)  # fmt: skip
"""Columns that become values as they are; of the second, what is zero is left out."""

_OPEN = 1.0
"""Seconds from which on an open transaction is told of; from when on it matters is a setting."""

_SAME_ANALYZE = timedelta(minutes=10)


def look(handle: Handle, scope: Scope) -> DatabaseFacts:
    """Survey one database. Raises `Unmatched` when a table was named that is not there."""
    chosen = selection(scope.config, handle.target.exclude)
    server = handle.row("server")
    server["partial_analyze"] = handle.identity.version.has(18)
    _refuse_columns(chosen, scope)
    if chosen.indexes and set(scope.operations) != {Operation.REINDEX}:
        raise UsageError("indexes are chosen, and not for reindex alone", hint="--operations reindex")
    beyond_counters = {Operation.CHECK} & set(scope.operations)
    everything = scope.policy.force or chosen.is_choice or bool(beyond_counters)
    found = near.look(
        handle, server, floor_of(scope), everything=everything, analyze=Operation.ANALYZE in scope.operations
    )
    server |= found.counts
    missing = _missing_statistics(handle, found)
    planned = [oid for item in scope.planned for oid in oids_of(item)]
    rows = near.tables(handle, found, [*missing, *planned], everything=everything)
    notices = choice.unmatched(handle, chosen, rows, fleet=scope.fleet)
    objects = _with_columns(handle, _tables(rows, chosen, server, missing))
    if everything:
        whole = sum(table.kind != "partitioned table" for table in objects)
        server |= {"tables": whole, "partitioned_tables": len(objects) - whole}
    around = surroundings.look(handle, scope.now)
    tables = _with_sizes(handle, objects, server, scope)
    return DatabaseFacts(
        target=handle.identity.key,
        engine=ENGINE,
        version=str(handle.identity.version),
        surveyed_at=scope.now,
        bytes=int(server.pop("pages") or 0) * handle.identity.block_size,
        identity={
            "system": handle.identity.system,
            "database": handle.identity.database,
            "database_oid": handle.identity.database_oid,
        },
        values={**server, **around.values, "standby": handle.identity.standby, "role": handle.identity.role,
                "version_number": handle.identity.version.number, "at_work": json.dumps(around.at_work), **_of_operations(handle, scope, everything=everything)},
        objects=(*tables, *_closer(handle, scope, chosen, tables)),
        notices=(*notices, *around.notices),
    )  # fmt: skip


def _closer(handle: Handle, scope: Scope, chosen: Selection, tables: Sequence[ObjectFacts]) -> Sequence[ObjectFacts]:
    """Indexes and bloated tables, where somebody asks for them."""
    everything = scope.policy.force or chosen.is_choice
    found: list[ObjectFacts] = []
    if Operation.REINDEX in scope.operations:
        from dbupkeep.engines.postgresql import indexes

        found += indexes.look(handle, chosen, tables, everything=everything)
    if Operation.OPTIMIZE in scope.operations:
        from dbupkeep.engines.postgresql import heap

        found += heap.look(handle, chosen, everything=scope.policy.force)
    return found


def _of_operations(handle: Handle, scope: Scope, *, everything: bool) -> dict[str, Value]:
    """What single operations want to know: who is waited for, how many indexes there are, extensions, free room."""
    wanted = set(scope.operations)
    values: dict[str, Value] = {}
    if wanted & {Operation.REINDEX, Operation.OPTIMIZE}:
        from dbupkeep.engines.postgresql import blockers, volumes

        values["long_transactions"] = blockers.kept(blockers.long_transactions(handle, _OPEN))
        values |= {"free_bytes": volumes.free(handle), "wal_kept": handle.row("wal_kept")["kept"]}
    if Operation.REINDEX in wanted and not everything:
        values["indexes"] = handle.row("index_count")["indexes"]
    if Operation.CHECK in wanted:
        from dbupkeep.engines.postgresql.extensions import AMCHECK

        values["amcheck"] = AMCHECK.state(handle)
    if Operation.OPTIMIZE in wanted:
        from dbupkeep.engines.postgresql import repack

        values["pg_repack"] = repack.state(handle)
    return values


def _missing_statistics(handle: Handle, passed: Near) -> dict[int, dict[str, Value]]:
    """Columns without statistics by table, as values."""
    if not passed.may_lack:
        return {}
    found: dict[int, dict[str, Value]] = defaultdict(dict)
    for row in handle.rows("missing_statistics", {"lacking": passed.lacking, "expressions": passed.expressions}):
        _add(found[row["oid"]], missing_statistics=int(row["missing"]))
        if row["inherits"]:
            found[row["oid"]]["inherits"] = True
    return found


def _tables(
    rows: Sequence[Mapping[str, Any]],
    chosen: Selection,
    server: Mapping[str, Any],
    missing: Mapping[int, Mapping[str, Value]],
) -> list[ObjectFacts]:
    below = of_partitions(rows, float(server["analyze_scale"]))
    found = []
    for row in rows:
        if not chosen.takes(row["schema"], row["name"]) or _too_young(row, chosen):
            continue
        values: dict[str, Value] = {name: row[name] for name in _ALWAYS}
        values.update((name, row[name]) for name in _COUNTED if row[name])
        values.update(_own_settings(row["options"], ""), **_own_settings(row["toast_options"], "toast_"))
        values["analyzed"] = row["analyzed_at"] is not None
        values.update(missing.get(row["oid"], {}))
        if row["schema"] in ("pg_catalog", "information_schema"):
            values["system"] = True
        if columns := chosen.tables.columns(row["schema"], row["name"]):
            values["columns"] = json.dumps(columns)
        if row["kind"] == "p":
            values.update(below.get(row["oid"], {}))
        if row["parent"]:
            values["parent"] = row["parent"]
        found.append(
            ObjectFacts(name=told(row["schema"], row["name"]), kind=KINDS[row["kind"]], bytes=None, values=values)
        )
    return found


def _refuse_columns(chosen: Selection, scope: Scope) -> None:
    if chosen.tables.with_columns and Operation.ANALYZE not in scope.operations:
        raise UsageError(
            "columns are chosen, but nothing is analyzed",
            why="VACUUM and REINDEX take whole tables",
            hint="--operations analyze; or name the table without columns",
        )


def _with_columns(handle: Handle, objects: Sequence[ObjectFacts]) -> list[ObjectFacts]:
    """Of tables of which columns are chosen, what is missing of those alone. Raises `Missing` for a column that is none."""
    oids = [int(needs.number(table.values, "oid")) for table in objects if table.values.get("columns")]
    if not oids:
        return list(objects)
    there: dict[int, dict[str, bool]] = defaultdict(dict)
    for row in handle.rows("columns", {"oids": oids}):
        there[row["oid"]][row["name"]] = row["analyzed"]
    return [_of_columns(table, there.get(int(needs.number(table.values, "oid")), {})) for table in objects]


def _of_columns(table: ObjectFacts, analyzed: Mapping[str, bool]) -> ObjectFacts:
    columns: list[str] = json.loads(str(table.values.get("columns") or "[]"))
    if lacking := [column for column in columns if column not in analyzed]:
        names = words.listed(lacking)
        raise Missing(f"{table.name} has no column {names}", hint="names of columns are taken as they are written")
    if not columns:
        return table
    missing = sum(not analyzed[column] for column in columns)
    return replace(table, values={**table.values, "missing_statistics": missing})


def _too_young(row: Mapping[str, Any], chosen: Selection) -> bool:
    if not (chosen.min_xid_age or chosen.min_mxid_age):
        return False
    age = max(row["age"] or 0, row["toast_age"] or 0)
    multixact_age = max(row["multixact_age"] or 0, row["toast_multixact_age"] or 0)
    return age < chosen.min_xid_age or multixact_age < chosen.min_mxid_age


def _own_settings(options: Sequence[str] | None, prefix: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for option in options or ():
        name, _, text = option.partition("=")
        if name in _SETTINGS:
            found[prefix + _SETTINGS[name]] = float(text)
        elif name == "autovacuum_enabled" and text.lower() in ("false", "off", "no", "0"):
            found[f"{prefix}autovacuum_off"] = True
    return found


def of_partitions(rows: Sequence[Mapping[str, Any]], scale: float) -> dict[int, dict[str, Value]]:
    """For each partitioned table: rows, pages and changes of the partitions below it.

    The server counts no changes for the parent. A partition that was analysed anew since its parent has changed by
    about autovacuum's share of its rows; to that comes what each has counted since. An ANALYZE of the parent goes on
    to its partitions (until 17), so those that follow within a while are taken as of the same one.
    """
    by_oid = {row["oid"]: row for row in rows}
    found: dict[int, dict[str, Value]] = {
        row["oid"]: {"rows": 0.0, "pages": 0, "modified": 0.0, "partitions": 0} for row in rows if row["kind"] == "p"
    }
    for row in rows:
        above = row["parent"] if row["kind"] != "p" else None
        while above in found:
            parent, sums = by_oid[above], found[above]
            since = parent["analyzed_at"]
            changed = float(row["modified"] or 0)
            if since is not None and row["analyzed_at"] is not None and row["analyzed_at"] - since > _SAME_ANALYZE:
                _add(sums, anew=max(0.0, row["rows"]) * scale)
                sums["anew_at"] = max(needs.number(sums, "anew_at"), row["analyzed_at"].timestamp())
            _add(sums, rows=max(0.0, row["rows"]), pages=row["pages"], modified=changed, partitions=1)
            above = parent["parent"]
    return found


def _add(sums: dict[str, Value], **more: float) -> None:
    for name, value in more.items():
        sums[name] = needs.number(sums, name) + value


def _with_sizes(
    handle: Handle, objects: Sequence[ObjectFacts], server: Mapping[str, Any], scope: Scope
) -> tuple[ObjectFacts, ...]:
    """Real sizes for those that may be due for what is asked for; for the others what the catalogue last counted."""
    block = handle.identity.block_size
    of_tables = set(scope.operations) != {Operation.REINDEX}
    near = [table for table in objects if of_tables and _is_candidate(table, server)]
    asked = {"oids": [table.values["oid"] for table in near]}
    sizes = {row["oid"]: row for row in handle.rows("sizes", asked)} if near else {}
    found = []
    for table in objects:
        size = sizes.get(int(needs.number(table.values, "oid")))
        pages = needs.number(table.values, "pages") + needs.number(table.values, "toast_pages")
        values = {**table.values, "index_bytes": size["index_bytes"]} if size else table.values
        found.append(
            ObjectFacts(
                name=table.name, kind=table.kind, bytes=size["bytes"] if size else int(pages * block), values=values
            )
        )
    return tuple(found)


def _is_candidate(table: ObjectFacts, server: Mapping[str, Any]) -> bool:
    if table.kind == "partitioned table":
        return False
    if (
        table.values.get("missing_statistics")
        or needs.vacuum_need(table, server, share=needs.FLOOR, freeze_share=needs.FLOOR).due
    ):
        return True
    return needs.analyze_need(table, server, share=needs.FLOOR).due
