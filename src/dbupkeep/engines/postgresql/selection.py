"""Which tables are looked at, and how: the flags of vacuumdb, by their own names, as settings of a step. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from dbupkeep.definitions import Setting
from dbupkeep.engines.postgresql.names import Patterns
from dbupkeep.errors import UsageError

FLAGS: Mapping[str, str] = {
    "table": "only tables of these patterns (name, or schema.name; * and ?; separated by commas); of ANALYZE, name(column, ...)",
    "exclude_table": "no tables of these patterns",
    "schema": "only schemas of these patterns",
    "exclude_schema": "no schemas of these patterns",
    "index": "only indexes of these patterns; reindex alone takes them",
    "min_xid_age": "only tables whose transaction ids are at least this old",
    "min_mxid_age": "only tables whose multixact ids are at least this old",
    "skip_locked": "leave out what is locked, instead of waiting for it",
    "analyze_in_stages": "rough statistics of all tables first, then better ones",
    "missing_stats_only": "analyze only what lacks statistics",
    "buffer_usage_limit": "the ring of buffers that VACUUM and ANALYZE use, such as 128MB; 0 for no ring",
    "parallel_workers": "workers of the server for the indexes of one table (vacuumdb --parallel)",
    "freeze": "freeze all rows",
    "truncate": "give empty pages at the end back, which takes an exclusive lock for a moment",
    "index_cleanup": "auto, on or off",
    "process_toast": "off leaves TOAST tables out",
    "process_main": "off leaves all but TOAST tables out",
    "disable_page_skipping": "read every page, whatever the visibility map says",
}
"""Settings of a step (`config`) that this engine knows, with what each means."""

_SWITCHES = (
    "skip_locked", "analyze_in_stages", "missing_stats_only", "freeze", "truncate", "process_toast",
    "process_main", "disable_page_skipping",
)  # fmt: skip

_ON = {"1", "on", "true", "yes"}
_OFF = {"0", "off", "false", "no", ""}


class Selection(Struct, frozen=True, kw_only=True):
    """The flags of one step."""

    tables: Patterns = field(default_factory=Patterns)
    exclude_tables: Patterns = field(default_factory=Patterns)
    schemas: Patterns = field(default_factory=Patterns)
    exclude_schemas: Patterns = field(default_factory=Patterns)
    indexes: Patterns = field(default_factory=Patterns)
    min_xid_age: int = 0
    min_mxid_age: int = 0
    analyze_in_stages: bool = False
    missing_stats_only: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether somebody chose objects by name."""
        return bool(self.tables or self.schemas)

    @property
    def is_choice(self) -> bool:
        """Whether anything is chosen by another measure than need: then all tables are looked at."""
        by_name = self.is_narrow or self.indexes or self.exclude_tables or self.exclude_schemas
        return bool(by_name or self.min_xid_age or self.min_mxid_age or self.analyze_in_stages)

    def takes_index(self, schema: str, name: str) -> bool:
        """Whether an index of a table that is looked at is looked at itself."""
        return not self.indexes or self.indexes.match(schema, name)

    def takes(self, schema: str, name: str) -> bool:
        """Whether a table is looked at."""
        if self.exclude_schemas.match("", schema) or self.exclude_tables.match(schema, name):
            return False
        if not self.is_narrow:
            return True
        return self.tables.match(schema, name) or self.schemas.match("", schema)


def selection(config: Mapping[str, Setting], exclude: tuple[str, ...] = ()) -> Selection:
    """Read a step's settings. Raises `UsageError` for a flag that is none, or that is contradictory."""
    _check(config)
    return Selection(
        tables=Patterns.of(_text(config, "table")),
        exclude_tables=Patterns.of([_text(config, "exclude_table"), *exclude]),
        schemas=Patterns.of(_text(config, "schema")),
        exclude_schemas=Patterns.of(_text(config, "exclude_schema")),
        indexes=Patterns.of(_text(config, "index")),
        min_xid_age=_number(config, "min_xid_age"),
        min_mxid_age=_number(config, "min_mxid_age"),
        analyze_in_stages=flag(config, "analyze_in_stages"),
        missing_stats_only=flag(config, "missing_stats_only"),
    )


def flag(config: Mapping[str, Setting], name: str) -> bool:
    """A flag that is on or off. Raises `UsageError` for anything else."""
    value = str(config.get(name) or "").strip().lower()
    if value not in _ON | _OFF:
        raise UsageError(f"{name} is {value!r}", why="it is on or off", hint=f"{name} = true")
    return value in _ON


def wanted(config: Mapping[str, Setting], name: str) -> bool:
    """A flag that is on unless it is said to be off. Raises `UsageError` for anything else."""
    return config.get(name) is None or flag(config, name)


def cleanup(value: Setting) -> str:
    """What is wanted of indexes: `auto`, `on` or `off`. Raises `UsageError` for anything else."""
    text = str("auto" if value in (None, "") else value).strip().lower()
    if text == "auto":
        return text
    return "on" if flag({"index_cleanup": text}, "index_cleanup") else "off"


def _check(config: Mapping[str, Setting]) -> None:
    unknown = sorted(set(config) - set(FLAGS))
    if unknown:
        from difflib import get_close_matches  # only who mistypes waits for it

        near = get_close_matches(unknown[0], FLAGS, 1)
        raise UsageError(
            f"PostgreSQL has no setting {unknown[0]!r}",
            hint=f"did you mean {near[0]}?" if near else f"known are {', '.join(FLAGS)}",
        )
    for name in _SWITCHES:
        flag(config, name)
    for name in ("min_xid_age", "min_mxid_age", "parallel_workers"):
        _number(config, name)
    cleanup(config.get("index_cleanup"))
    if not (wanted(config, "process_main") or wanted(config, "process_toast")):
        raise UsageError("process_main and process_toast are off", why="nothing would be vacuumed", hint="leave one on")
    for name in ("exclude_table", "schema", "exclude_schema", "index"):
        if Patterns.of(_text(config, name)).with_columns:
            raise UsageError(f"{name} takes no columns", hint="only `table` does: table = 'orders(id)'")
    if _text(config, "table") and (_text(config, "schema") or _text(config, "exclude_schema")):
        raise UsageError("tables and schemas cannot both be chosen", hint="write table = 'schema.*' instead")


def _text(config: Mapping[str, Setting], name: str) -> str:
    return str(config.get(name) or "")


def _number(config: Mapping[str, Setting], name: str) -> int:
    value = config.get(name) or 0
    try:
        number = int(value)
    except ValueError:
        number = -1
    if number < 0:
        raise UsageError(f"{name} is {value!r}", why="it is a whole number, from 0 on", hint=f"{name} = 2")
    return number
