"""Faults on purpose, at the ports: a ledger that breaks at the n-th thing it does.

Nothing in the product knows of faults. What a test wants broken it wraps, and says where and how: raise an error, kill
the process, wait for a signal. `points` counts without breaking, so that a test can break at every one in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar, cast

from dbupkeep.errors import LedgerError
from dbupkeep.ledger import Ledger, Tx
from dbupkeep.sql import Row, SqlTx

T = TypeVar("T")

ANY = ""
"""Every point, whatever its name."""


def outage() -> None:
    """Raise what a ledger raises that cannot be used."""
    raise LedgerError("the ledger cannot be used", why="a test broke it on purpose")


class Faults:
    """Counts the points that are passed, and does `act` at those that were asked for.

    Points are named `begin` (before a transaction), a statement's name (before it), `commit` (after the last
    statement) and `committed` (after the transaction: it is durable, and its caller does not know).
    """

    def __init__(self, act: Callable[[], object] = outage) -> None:
        """`act` raises, or ends the process, or returns."""
        self.act = act
        self.passed: list[str] = []
        self._at = 0
        self._name = ANY
        self._last = 0

    def at(self, nth: int, name: str = ANY, *, times: int = 1) -> None:
        """Act at the nth point of that name from now, and at those after it: `times` in all."""
        self.passed = []
        self._at, self._name, self._last = nth, name, nth + times - 1

    def never(self) -> None:
        """Only count from now."""
        self.at(0, times=0)

    def hit(self, point: str) -> None:
        """Pass a point."""
        self.passed.append(point)
        count = sum(1 for passed in self.passed if passed.startswith(self._name)) if self._at else 0
        if point.startswith(self._name) and 0 < self._at <= count <= self._last:
            self.act()


class _HasSql(Protocol):
    sql: SqlTx


class FaultyLedger:
    """A ledger with points at which it breaks; what it does not break it hands on.

    Give it to `Lifecycle` and `JobProcessor` in place of the ledger that it wraps; the queue keeps the wrapped one, and
    its statements within a lifecycle's transaction are points too.
    """

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        """Stand before a ledger."""
        self._ledger = ledger
        self._faults = faults

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the wrapped ledger has
        return getattr(self._ledger, name)

    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run `work` with a point before each statement."""
        self._faults.hit("begin")

        def broken(tx: Tx) -> T:
            result = work(cast("Tx", _FaultyTx(tx, self._faults)))
            self._faults.hit("commit")
            return result

        result = self._ledger.transact(broken)
        self._faults.hit("committed")
        return result


class _FaultyTx:
    """A transaction whose statements are points."""

    def __init__(self, tx: Tx, faults: Faults) -> None:
        self._tx = tx
        self.sql = _FaultySql(cast("_HasSql", tx).sql, faults)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the wrapped transaction has
        return getattr(self._tx, name)


class _FaultySql:
    """Statements that are points; fulfils `SqlTx`."""

    def __init__(self, sql: SqlTx, faults: Faults) -> None:
        self._sql = sql
        self._faults = faults

    def all(self, statement: str, **parameters: Any) -> list[Row]:  # noqa: ANN401 - as in the port
        self._faults.hit(statement)
        return self._sql.all(statement, **parameters)

    def one(self, statement: str, **parameters: Any) -> Row | None:  # noqa: ANN401
        self._faults.hit(statement)
        return self._sql.one(statement, **parameters)

    def run(self, statement: str, **parameters: Any) -> int:  # noqa: ANN401
        self._faults.hit(statement)
        return self._sql.run(statement, **parameters)

    def many(self, statement: str, parameters: Iterable[Mapping[str, Any]]) -> None:
        self._faults.hit(statement)
        self._sql.many(statement, parameters)

    def native(self, text: str, *values: Any) -> list[Row]:  # noqa: ANN401 - what only some have
        self._faults.hit("native")
        found: list[Row] = getattr(self._sql, "native")(text, *values)  # noqa: B009 - not of the port
        return found
