"""Named SQL statements, and the transaction that they run on.

A `.sql` file holds blocks that begin with `-- name: NAME`; parameters are `:name`. `queries.sql` is for every
dialect, `<dialect>/queries.sql` adds to it or replaces a statement by name, and `<dialect>/NNNN_*.sql` are the
migrations, applied in order and never changed once released.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = Mapping[str, Any]

HERE = Path(__file__).parent


class SqlTx(Protocol):
    """An open transaction, as far as statements go."""

    def all(self, statement: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 - what the driver can bind
        """Run a named statement and return its rows."""
        ...

    def one(self, statement: str, **parameters: Any) -> Row | None:  # noqa: ANN401
        """Run a named statement and return its first row."""
        ...

    def run(self, statement: str, **parameters: Any) -> int:  # noqa: ANN401
        """Run a named statement and return how many rows it changed."""
        ...

    def many(self, statement: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        """Run a named statement once for each set of parameters."""
        ...


class HasSql(Protocol):
    """A ledger's transaction that stands on SQL: what a queue in the same database writes on."""

    @property
    def sql(self) -> SqlTx:
        """The statements of the same transaction."""
        ...


class SqlStore(Protocol):
    """A ledger on SQL, as far as a queue in the same database needs it."""

    def transact(self, work: Callable[[Any], T]) -> T:
        """Run a closure in a transaction of its own."""
        ...

    def transact_lightly(self, work: Callable[[Any], T]) -> T:
        """As `transact`, for what a power failure may take back; whatever is durable later keeps it too."""
        ...

    def reading(self) -> SqlTx:
        """A connection of this thread that only reads."""
        ...


@cache
def statements(dialect: str) -> Mapping[str, str]:
    """All named statements of a dialect."""
    return {**_named("queries.sql"), **_named(f"{dialect}/queries.sql")}


@cache
def migrations(dialect: str) -> Sequence[tuple[int, str, str]]:
    """The migrations of a dialect in order: number, name, text."""
    folder = HERE / dialect
    found = [entry for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name)]
    return [
        (int(entry.name[:4]), entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


def _named(path: str) -> dict[str, str]:
    resource = HERE / path
    if not resource.is_file():
        return {}
    blocks = re.split(r"^-- name: (\w+)\n", resource.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip().rstrip(";") for name, text in zip(blocks[1::2], blocks[2::2], strict=True)}
