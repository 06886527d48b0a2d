"""The audit trail on named SQL statements: what each dialect shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from dbupkeep.audit import PRUNED, Act, Ends, Entry, sealed
from dbupkeep.ledger import Tx
from dbupkeep.ledgers import rows
from dbupkeep.ledgers.relational import RelationalTx
from dbupkeep.sql import Row, SqlTx

T = TypeVar("T")


class RelationalTrail:
    """Writes and reads the trail; a dialect gives transactions and a connection that reads."""

    def transact(self, work: Callable[[Tx], T]) -> T:
        """Run a closure in a transaction."""
        raise NotImplementedError

    def reading(self) -> SqlTx:
        """A connection of this thread that only reads."""
        raise NotImplementedError

    def record(self, tx: Tx, act: Act) -> Entry:
        """Add an entry; whoever else adds one waits until the transaction ends, so it comes last in it."""
        own = cast("RelationalTx", tx)
        ends = own.sql.one("audit_ends_locked") or {}
        at = rows.moment_text(own.clock.now()) or ""
        entry = sealed(act, seq=ends["last"] + 1, at=at, previous=ends["last_seal"])
        own.sql.run("audit_insert", **{name: getattr(entry, name) for name in Entry.__struct_fields__})
        own.sql.run("audit_ended", seq=entry.seq, seal=entry.seal)
        return entry

    def acts(self, *, before: int = 0, who: str = "", what: str = "", limit: int = 100) -> Sequence[Entry]:
        """The newest entries first, from below `before` on (0: from the end)."""
        values: dict[str, Any] = {"before": before or 2**62, "who": who, "what": what, "limit": limit}
        return [_entry(row) for row in self.reading().all("audit_before", **values)]

    def acts_after(self, seq: int, *, limit: int = 1000) -> Sequence[Entry]:
        """Entries in the order in which they were made."""
        return [_entry(row) for row in self.reading().all("audit_after", after=seq, limit=limit)]

    def ends(self) -> Ends:
        """Where the trail begins and ends, as it notes itself."""
        return Ends(**(self.reading().one("audit_ends") or {}))

    def forget(self, before: datetime, *, by: str) -> int:
        """Prune entries older than that; the trail says so itself, with the seal that it now begins after."""

        def work(tx: Tx) -> int:
            own = cast("RelationalTx", tx)
            own.sql.one("audit_ends_locked")
            last = own.sql.one("audit_older", before=rows.moment_text(before))
            if last is None:
                return 0
            own.sql.run("audit_prune_through", seq=last["seq"], seal=last["seal"])
            gone = own.sql.run("audit_prune", seq=last["seq"])
            detail = {"through": last["seq"], "seal": last["seal"], "entries": gone}
            self.record(tx, Act(who=by, what=PRUNED, detail=detail))
            return gone

        return self.transact(work)


def _entry(row: Row) -> Entry:
    return Entry(
        seq=row["seq"], at=row["at"], who=row["who"], what=row["what"], on=row["on_what"], target=row["target"],
        outcome=row["outcome"], detail=row["detail"], previous=row["previous"], seal=row["seal"],
    )  # fmt: skip
