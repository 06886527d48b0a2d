"""The first 100 bytes of a database file, read as https://www.sqlite.org/fileformat2.html describes them. Pure."""

from __future__ import annotations

import math
import struct
from collections import Counter

from msgspec import Struct

from dbupkeep.errors import Kind, Refused

SIZE = 100
LOOK = 4096
"""How much of a file is looked at to tell what it is, when it is not a database."""

MAGIC = b"SQLite format 3\0"
WAL = 2
"""The write version of a database in WAL mode."""

WRITE_VERSION = 18
CHANGE_COUNTER = 24
VALID_FOR = 92
"""Where these are in the header; the last says for which change counter the count of pages holds."""

_NEWEST_FORMAT = 4
_RANDOM_BITS = 7.5  # bits of information in a byte; text and programs stay below 6.5
_LAYOUT = struct.Struct(">16s H 6B 12I 20s 2I")
_OTHERS = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x37\x7f\x06\x82", "the -wal of a database"),
    (b"\x37\x7f\x06\x83", "the -wal of a database"),
    (b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", "the rollback journal of a database"),
    (b"** This file contains an SQLite 2", "a database of SQLite 2"),
)


class Header(Struct, frozen=True, kw_only=True):
    """What a database file says of itself. Sizes in pages, but for `page_size` in bytes."""

    page_size: int
    write_version: int
    change_counter: int
    pages: int  # trustworthy only when `counted`
    free_pages: int
    schema_format: int
    auto_vacuum: bool
    incremental: bool
    application_id: int
    counted: bool  # whether the last writer kept `pages` up to date

    @property
    def wal(self) -> bool:
        """Whether the database is in WAL mode."""
        return self.write_version == WAL


def parse(data: bytes, size: int, name: str) -> Header:
    """Read a header. Raises `Refused`: not a database, encrypted, corrupt or of a newer format.

    `data` is the start of the file, at best `LOOK` bytes of it; `size` the whole file's bytes.
    """
    if not data.startswith(MAGIC):
        raise _stranger(data, size, name)
    if len(data) < SIZE:
        raise _corrupt(name, f"it ends after {len(data)} bytes, within the header")
    _, raw_size, write_version, read_version, _, *rest = _LAYOUT.unpack_from(data)
    fractions, numbers, written_at = rest[:3], rest[3:15], rest[16]
    changes, pages, _, free, _, schema_format, _, largest_root, _, _, incremental, application_id = numbers
    page_size = 65536 if raw_size == 1 else raw_size
    if page_size < 512 or page_size & (page_size - 1):  # noqa: PLR2004 - the format's bound
        raise _corrupt(name, f"its header gives a page size of {page_size}")
    if fractions != [64, 32, 32]:
        raise _corrupt(name, f"its header gives payload fractions of {fractions} instead of 64, 32 and 32")
    if read_version > WAL or schema_format > _NEWEST_FORMAT:
        raise _newer(name, read_version, schema_format)
    return Header(
        page_size=page_size,
        write_version=write_version,
        change_counter=changes,
        pages=pages,
        free_pages=free,
        schema_format=schema_format,
        auto_vacuum=bool(largest_root),
        incremental=bool(incremental),
        application_id=application_id,
        counted=bool(pages) and changes == written_at,
    )


def missing_bytes(header: Header, size: int) -> int:
    """How much the file is shorter than its header says. A `-wal` or a journal may hold the rest."""
    return max(0, header.pages * header.page_size - size) if header.counted else 0


def truncated(header: Header, size: int, name: str) -> Refused:
    """The error for a file that lost its end."""
    return _corrupt(
        name, f"its header counts {header.pages * header.page_size:,} bytes, and the file has only {size:,}"
    )


def _stranger(data: bytes, size: int, name: str) -> Refused:
    for start, what in _OTHERS:
        if data.startswith(start):
            return Refused(f"{name} is not a SQLite database", why=f"it is {what}", hint="check the path")
    if len(data) >= 512 and size % 512 == 0 and _bits(data) > _bits_wanted(len(data)):  # noqa: PLR2004 - smallest page
        return Refused(
            f"{name} looks encrypted",
            why="it is made of whole pages of random-looking bytes and has no readable header",
            hint="SQLCipher and SEE databases can only be maintained by a library that has the key",
            kind=Kind.ENCRYPTED,
        )
    return Refused(
        f"{name} is not a SQLite database",
        why=f"a database starts with 'SQLite format 3', and this file starts with {data[:16]!r}",
        hint="check the path",
    )


def _bits(data: bytes) -> float:
    return -sum(n / len(data) * math.log2(n / len(data)) for n in Counter(data).values())


def _bits_wanted(length: int) -> float:
    """Random bytes carry 8 bits each; a short sample of them shows less."""
    return _RANDOM_BITS if length >= 1024 else 7.3  # noqa: PLR2004 - measured on samples of random bytes


def _corrupt(name: str, why: str) -> Refused:
    return Refused(
        f"{name} has a corrupt header",
        why=why,
        hint="restore a backup; `.recover` of the sqlite3 shell saves what can be saved",
        kind=Kind.CORRUPT,
    )


def _newer(name: str, read_version: int, schema_format: int) -> Refused:
    return Refused(
        f"{name} has a format that this SQLite does not read",
        why=f"its read version is {read_version} and its schema format {schema_format}",
        hint="it was written by a newer SQLite or by a fork of it; use a version of dbupkeep that brings that library",
        kind=Kind.CAPABILITY,
    )
