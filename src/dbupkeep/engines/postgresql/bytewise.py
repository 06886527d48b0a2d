r"""Text that need not be UTF-8: a SQL_ASCII database keeps bytes and knows no letters, and servers share some of them.

What is UTF-8 is read as such; any other byte becomes a letter of its own in Unicode's private range, U+F780 to U+F7FF,
which ledgers and documents can keep and `printable` tells as `\xNN`. The same way back gives the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.types.string import StrDumper, StrDumperUnknown
from typing_extensions import override

from dbupkeep.logs import BYTE, is_text

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext, Buffer

WIRE = "LATIN1"
"""What we call the encoding of such a session: the server hands over every byte as it is, and takes it so."""

_TEXTS = ("text", "name", "varchar", "bpchar", '"char"')
_ESCAPE = 0xDC00  # of Python's `surrogateescape`


def decoded(data: bytes) -> str:
    """Bytes as text that can be kept anywhere."""
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isascii() else "".join(map(_kept, text))


def encoded(text: str) -> bytes:
    """The bytes of what `decoded` gave."""
    if text.isascii():
        return text.encode()
    return "".join(chr(_ESCAPE + ord(char) - BYTE) if not is_text(char) else char for char in text).encode(
        "utf-8", "surrogateescape"
    )


def is_bytewise(connection: psycopg.Connection[Any]) -> bool:
    """Whether the database is of such a kind."""
    return connection.info.parameter_status("server_encoding") == "SQL_ASCII"


def adapt(connection: psycopg.Connection[Any]) -> None:
    """Have a connection read any bytes as text; in a SQL_ASCII database write them so too."""
    for name in _TEXTS:
        connection.adapters.register_loader(name, _Text)
    if is_bytewise(connection):
        for dumper in (_Typed, _Untyped):
            connection.adapters.register_dumper(str, dumper)


def written(statement: sql.Composable, connection: psycopg.Connection[Any]) -> str:
    """A statement as people are told it."""
    if is_bytewise(connection):
        return decoded(bytes(statement.as_bytes(connection)))
    return statement.as_string(connection)


def sent(argument: str, connection: psycopg.Connection[Any]) -> str | bytes:
    """An argument for a program that hands it on to the database."""
    return encoded(argument) if is_bytewise(connection) else argument


class Name(sql.Identifier):
    """A name in a statement, by the driver's quoting and with the very bytes that the database has."""

    @override
    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """For a connection."""
        connection = context.connection if context else None
        if not isinstance(connection, psycopg.Connection) or not is_bytewise(connection):
            return super().as_bytes(context)
        escaping = psycopg.pq.Escaping(connection.pgconn)
        return b".".join(bytes(escaping.escape_identifier(encoded(part))) for part in self._obj)


class _Text(Loader):
    @override
    def load(self, data: Buffer) -> str:
        return decoded(bytes(data))


class _Typed(StrDumper):
    @override
    def dump(self, obj: str) -> Buffer:
        return encoded(obj)


class _Untyped(StrDumperUnknown):
    @override
    def dump(self, obj: str) -> Buffer:
        return encoded(obj)


def _kept(char: str) -> str:
    """A byte that is no text as a letter; such a letter itself as its bytes, so that none is taken for another."""
    number = ord(char)
    if _ESCAPE <= number <= _ESCAPE + 0xFF:
        return chr(BYTE + number - _ESCAPE)
    return "".join(chr(BYTE + byte) for byte in char.encode()) if not is_text(char) else char
