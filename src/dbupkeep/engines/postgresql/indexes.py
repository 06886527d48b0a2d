"""What a survey says of indexes: which are invalid or outdated, how big they are, and what a rebuild would make of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from dbupkeep.engines.postgresql import bloat, choice
from dbupkeep.engines.postgresql.extensions import PGSTATINDEX
from dbupkeep.engines.postgresql.names import told
from dbupkeep.engines.postgresql.remains import is_copy_of
from dbupkeep.errors import UpkeepError
from dbupkeep.facts import ObjectFacts, Value

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle
    from dbupkeep.engines.postgresql.selection import Selection

KIND = "index"

_COLUMNS = (
    "oid", "tablespace", "toast", "method", "valid", "ready", "exclusion", "partial", "permitted", "owned", "table_oid", "toast_oid",
)  # fmt: skip

_LOOKED_AT = 512 * 1024
"""Bytes from which on an index is looked at closely, however low a threshold is set."""

_READ_AT_MOST = 1 << 30
"""Bytes of index pages that one survey reads, the most promising first."""

_WORTH_READING = 0.15
"""The share of bloat, by statistics, from which on an index is read."""

_STALE = 0.2
"""The share of rows that may have changed since the last ANALYZE."""

_FILL = 0.9
_KEPT_ONCE_OFF = ("deduplicate_items=off", "deduplicate_items=false", "deduplicate_items=0", "deduplicate_items=no")


def look(handle: Handle, chosen: Selection, tables: Sequence[ObjectFacts], *, everything: bool) -> list[ObjectFacts]:
    """The indexes that may need something, or all that were chosen, as facts; a few queries for all of them."""
    changed = {row["oid"]: row for row in handle.rows("changed_collations")}
    asked = {
        "collations": list(changed),
        "pages": _LOOKED_AT / handle.identity.block_size / 2,
        "everything": everything,
    }
    rows = [row for row in handle.rows("indexes", asked) if chosen.takes(row["table_schema"], row["table_name"])]
    choice.refuse_unmatched(handle, chosen.indexes, [(row["schema"], row["name"]) for row in rows], "index")
    rows = [row for row in rows if chosen.takes_index(row["schema"], row["name"])]
    sizes = _sizes(handle, rows)
    close = [row for row in rows if row["valid"] and sizes.get(row["oid"], 0) >= _LOOKED_AT]
    found = _Found(
        sizes=sizes, trees=_trees(handle, close, sizes), changed=changed, block=handle.identity.block_size,
        tables={table.name: table for table in tables},
    )  # fmt: skip
    return [_facts(row, found) for row in rows]


class _Found(Struct, frozen=True, kw_only=True):
    """What was found, by OID of the index; and the tables by name."""

    sizes: Mapping[int, int]
    trees: Mapping[int, tuple[bloat.Index, bloat.Predicted]]
    changed: Mapping[int, Mapping[str, Any]]
    tables: Mapping[str, ObjectFacts]
    block: int


def tree_of(row: Mapping[str, Any], size: int, columns: Sequence[dict[str, object]]) -> bloat.Index:
    """What is known of one B-tree."""
    rows, dead = _rows_of(row)
    options = [str(option).lower() for option in row["options"] or ()]
    fill = next(
        (float(option.partition("=")[2]) / 100 for option in options if option.startswith("fillfactor=")), _FILL
    )
    return bloat.Index(
        bytes=size,
        rows=rows,
        dead=dead,
        fill=fill,
        unique=bool(row["is_unique"]),
        deduplicates=not any(option in _KEPT_ONCE_OFF for option in options),
        stale=_changed(row) > _STALE * max(rows, 1.0),
        columns=bloat.columns_of(columns),
    )


def pages_of(handle: Handle, function: sql.Identifier, oid: int) -> bloat.Pages | None:
    """Read all pages of a B-tree; None when it cannot be read now."""
    from psycopg import sql

    text = sql.SQL("SELECT * FROM {}(%(oid)s::oid::regclass)").format(function).as_string(handle.connection)
    try:
        row = handle.row(text, {"oid": oid})
    except UpkeepError:
        return None
    density = float(row["avg_leaf_density"])
    return bloat.Pages(
        bytes=row["index_size"],
        leaves=row["leaf_pages"],
        empty=row["empty_pages"],
        deleted=row["deleted_pages"],
        density=0.0 if density != density else density / 100,  # noqa: PLR0124 - NaN, of an index without leaves
    )


def _sizes(handle: Handle, rows: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Real sizes of what may be big, and of all that is invalid; what was never counted may be big too."""
    least = _LOOKED_AT / handle.identity.block_size / 2
    asked = [row["oid"] for row in rows if not row["valid"] or row["pages"] >= least or row["entries"] <= 0]
    return {row["oid"]: row["bytes"] for row in handle.rows("index_sizes", {"oids": asked})} if asked else {}


def _trees(
    handle: Handle, rows: Sequence[Mapping[str, Any]], sizes: Mapping[int, int]
) -> dict[int, tuple[bloat.Index, bloat.Predicted]]:
    """What a rebuild would make of the B-trees among some indexes: by statistics, and where that is worth it by reading."""
    trees = [row for row in rows if row["method"] == "btree"]
    if not trees:
        return {}
    columns: dict[int, list[dict[str, object]]] = defaultdict(list)
    for column in handle.rows("index_columns", {"oids": [row["oid"] for row in trees]}):
        columns[column["oid"]].append(column)
    found = {}
    for row in trees:
        tree = tree_of(row, sizes[row["oid"]], columns[row["oid"]])
        found[row["oid"]] = (tree, bloat.by_statistics(tree))
    return {**found, **_read(handle, found)}


def _read(
    handle: Handle, trees: Mapping[int, tuple[bloat.Index, bloat.Predicted]]
) -> dict[int, tuple[bloat.Index, bloat.Predicted]]:
    function = PGSTATINDEX.callable(handle)
    if function is None:
        return {}
    left, found = _READ_AT_MOST, {}
    for oid, (tree, guess) in sorted(trees.items(), key=lambda entry: -entry[1][0].bytes):
        gain = guess.gain(tree.bytes)
        if tree.bytes > left or (gain is not None and gain < _WORTH_READING):
            continue
        pages = pages_of(handle, function, oid)
        if pages is not None:
            left -= tree.bytes
            found[oid] = (tree, bloat.by_pages(tree, pages))
    return found


def _changed(row: Mapping[str, Any]) -> float:
    """Rows changed since the last ANALYZE; statistics of a TOAST table do not matter: its index has fixed widths."""
    return 0.0 if row["toast"] else float(row["modified"] or 0)


def _rows_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Live rows that an index holds, and dead ones; below zero: not known."""
    counted, live, dead = float(row["rows"]), float(row["live"] or 0), float(row["dead"] or 0)
    changed = (row["modified"] or 0) + (row["inserted"] or 0) + dead
    rows = live if changed and live else counted
    if row["partial"]:
        share = 1.0 if counted <= 0 or row["entries"] < 0 else min(1.0, row["entries"] / counted)
        return (rows * share if rows >= 0 else rows), dead * share
    return rows, dead


def _facts(row: Mapping[str, Any], found: _Found) -> ObjectFacts:
    values: dict[str, Value] = {name: row[name] for name in _COLUMNS}
    size = found.sizes.get(row["oid"])
    table = found.tables.get(told(row["table_schema"], row["table_name"]))
    values["table_bytes"] = table.bytes if table else row["table_pages"] * found.block
    if not row["valid"]:
        values["copy"] = any(is_copy_of(row["name"], sibling) for sibling in row["siblings"] or ())
        values["comment"] = row["comment"]
    if row["collation"] is not None:
        collation = found.changed[row["collation"]]
        values |= {"collation": collation["name"], "recorded": collation["recorded"], "actual": collation["actual"]}
    values["rows"], _ = _rows_of(row)
    if row["oid"] in found.trees:
        guess = found.trees[row["oid"]][1]
        values |= {"least": guess.least, "most": guess.most, "how": guess.how, "source": guess.source.value}
    return ObjectFacts(
        name=told(row["schema"], row["name"]),
        kind=KIND,
        table=told(row["table_schema"], row["table_name"]),
        bytes=size if size is not None else int(row["pages"] * found.block),
        values=values,
    )
