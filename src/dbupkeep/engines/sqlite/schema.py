"""What the schema says: objects, what they lack here, and what depends on rowids that VACUUM may renumber."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import apsw
from msgspec import Struct
from typing_extensions import override

from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.handle import Handle

_NAMED = re.compile(
    r"no such collation sequence: (?P<collation>.+)|(?:unknown|no such) function: (?P<function>.+?)\(?\)?$"
)
_MENTIONS_ROWID = re.compile(r"\b(?:rowid|_rowid_|oid)\b", re.IGNORECASE)
_FTS = re.compile(r"\bUSING\s+[\"'`\[]?fts[345]", re.IGNORECASE)
_CONTENT = re.compile(r"\bcontent\s*=\s*(?P<table>'[^']*'|\"[^\"]*\"|\[[^\]]*\]|`[^`]*`|\w*)", re.IGNORECASE)

_OBJECTS = """
select type, name, tbl_name, coalesce(sql, '') from sqlite_schema where type in ('table', 'index', 'view', 'trigger')
"""

_ROWID_TABLES = """
select t.name from pragma_table_list t
where t.schema = 'main' and t.type = 'table' and t.wr = 0 and t.name not like 'sqlite\\_%' escape '\\'
  and (
    (select count(*) from pragma_table_info(t.name) c where c.pk > 0 and upper(c.type) = 'INTEGER') <> 1
    or (select count(*) from pragma_table_info(t.name) c where c.pk > 0) <> 1
    or exists (select 1 from pragma_index_list(t.name) i where i.origin = 'pk')
  )
order by t.name
"""


class Entry(Struct, frozen=True, kw_only=True):
    """One row of the schema."""

    kind: str
    name: str
    table: str
    sql: str

    @property
    def virtual(self) -> bool:
        """Whether a module keeps the table, and not SQLite's own pages."""
        return self.sql[:20].upper().startswith("CREATE VIRTUAL")


class Lacking(Struct, frozen=True, kw_only=True):
    """What the database uses and this program does not have."""

    collations: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self.collations or self.functions)

    @override
    def __str__(self) -> str:
        """Name all of it."""
        return ", ".join(
            [f"collation {name}" for name in self.collations] + [f"function {name}()" for name in self.functions]
        )


def entries(handle: Handle) -> tuple[Entry, ...]:
    """All tables, indexes, views and triggers."""
    return tuple(Entry(kind=row[0], name=row[1], table=row[2], sql=row[3]) for row in handle.rows(_OBJECTS))


def lacking(handle: Handle) -> Lacking:
    """Which collations and functions of the schema are missing here: asks SQLite to prepare a REINDEX, and runs nothing."""
    collations: list[str] = []
    functions: list[str] = []
    connection = handle.connection
    try:
        while True:
            try:
                connection.execute("EXPLAIN REINDEX").fetchall()
                break
            except apsw.SQLError as error:
                match = _NAMED.search(str(error))
                if not match or not _stand_in(connection, match, collations, functions):
                    with told(handle.path, stage="reading the schema"):
                        raise
    finally:
        for name in collations:
            connection.create_collation(name, None)
        for name in functions:
            connection.create_scalar_function(name, None)
    return Lacking(collations=tuple(collations), functions=tuple(functions))


def _stand_in(connection: apsw.Connection, match: re.Match[str], collations: list[str], functions: list[str]) -> bool:
    """Register something of that name, so that the next missing one shows; False when that did not help."""
    collation, function = match["collation"], match["function"]
    if collation and collation not in collations:
        connection.create_collation(collation, lambda left, right: (left > right) - (left < right))
        collations.append(collation)
        return True
    if function and function not in functions:
        connection.create_scalar_function(function, lambda *_: None, deterministic=True, flags=apsw.SQLITE_INNOCUOUS)
        functions.append(function)
        return True
    return False


def rowid_tables(handle: Handle) -> tuple[str, ...]:
    """Tables whose rows have no number of their own, so that VACUUM may give them new ones."""
    return tuple(row[0] for row in handle.rows(_ROWID_TABLES))


def rowid_dependents(schema: Sequence[Entry], tables: Iterable[str]) -> tuple[str, ...]:
    """What in the schema may depend on the rowids of those tables: full-text indexes of outside content, SQL that says rowid."""
    affected = {name.lower() for name in tables}
    if not affected:
        return ()
    return tuple(entry.name for entry in schema if _depends(entry, affected))


def _depends(entry: Entry, affected: set[str]) -> bool:
    if entry.kind == "table":
        content = _CONTENT.search(entry.sql) if _FTS.search(entry.sql) else None
        if content is None:
            return False
        source = content["table"].strip("'\"[]`").lower()
        return not source or source in affected  # contentless: its numbers may come from any table
    if entry.kind not in {"view", "trigger"} or not _MENTIONS_ROWID.search(entry.sql):
        return False
    return any(re.search(rf"\b{re.escape(name)}\b", entry.sql, re.IGNORECASE) for name in affected)
