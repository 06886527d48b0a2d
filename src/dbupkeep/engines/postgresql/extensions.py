"""Extensions that help: whether they are there, and what to say when they are not. None is ever created by us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from psycopg import sql

    from dbupkeep.engines.postgresql.handle import Handle

READY = "ready"


class Extension(Struct, frozen=True, kw_only=True):
    """One that an operation uses, by one of its functions."""

    name: str
    function: str  # whose EXECUTE is needed
    arguments: str  # of the function, for a GRANT
    package: str

    def callable(self, handle: Handle) -> sql.Identifier | None:
        """Its function, for a statement; None where it is not installed, or this role may not call it."""
        from dbupkeep.engines.postgresql.bytewise import Name

        rows = handle.once(*self._asked())
        return Name(rows[0]["schema"], self.function) if rows and rows[0]["callable"] else None

    def _asked(self) -> tuple[str, Mapping[str, str]]:
        return "extension", {"name": self.name, "function": self.function, "arguments": self.arguments}

    def state(self, handle: Handle) -> str:
        """`ready`, or the sentence that says what is lacking and what to do."""
        rows = handle.rows(*self._asked())
        if rows and rows[0]["callable"]:
            return READY
        if rows:
            name = f"{rows[0]['schema']}.{self.function}({self.arguments})"
            return f"{handle.identity.role} may not call it: GRANT EXECUTE ON FUNCTION {name} TO {handle.identity.role}"
        return self.lack(handle)

    def lack(self, handle: Handle) -> str:
        """The sentence that says what is lacking, where it is not there."""
        there = handle.rows("extensions", {"names": [self.name]})
        if there and there[0]["installed"]:
            return f"the installed version of {self.name} has no function {self.function}"
        if there:
            return (
                f"{self.name} is not installed in {handle.identity.database}: a superuser can run"
                f" CREATE EXTENSION {self.name}; dbupkeep never does"
            )
        return f"{self.name} is not on this server: install {self.package}, then CREATE EXTENSION {self.name}"


PGSTATINDEX = Extension(
    name="pgstattuple", function="pgstatindex", arguments="regclass", package="the contrib modules of PostgreSQL"
)
AMCHECK = Extension(
    name="amcheck",
    function="bt_index_check",
    arguments="regclass, boolean",
    package="the contrib modules of PostgreSQL",
)
PGSTATTUPLE = Extension(
    name="pgstattuple",
    function="pgstattuple_approx",
    arguments="regclass",
    package="the contrib modules of PostgreSQL",
)
REPACK = Extension(name="pg_repack", function="", arguments="", package="the package of pg_repack")
