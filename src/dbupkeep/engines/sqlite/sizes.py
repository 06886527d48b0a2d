"""What a database takes on disk, before and after."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.facts import Value


class Sizes(Struct, frozen=True, kw_only=True):
    """Bytes by `stat`, pages by SQLite."""

    file_bytes: int
    wal_bytes: int
    pages: int
    free_pages: int
    page_size: int

    @property
    def bytes(self) -> int:
        """All that it takes: the file and its `-wal`."""
        return self.file_bytes + self.wal_bytes

    @property
    def free_bytes(self) -> int:
        """Bytes of free pages."""
        return self.free_pages * self.page_size

    @property
    def live_bytes(self) -> int:
        """Bytes of pages in use: what a rewrite copies."""
        return (self.pages - self.free_pages) * self.page_size

    def values(self) -> dict[str, Value]:
        """As evidence says it."""
        return {
            "bytes": self.bytes,
            "file_bytes": self.file_bytes,
            "wal_bytes": self.wal_bytes,
            "pages": self.pages,
            "free_pages": self.free_pages,
            "page_size": self.page_size,
        }

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Sizes:
        """Read it back from evidence."""
        numbers = {name: int(values.get(name) or 0) for name in cls.__struct_fields__}
        return cls(**numbers)


def measure(handle: Handle) -> Sizes:
    """Look at the files and the header's counts now."""
    return Sizes(
        file_bytes=handle.path.stat().st_size,
        wal_bytes=handle.place.size_beside("-wal") or 0,
        pages=int(handle.pragma("page_count")),
        free_pages=int(handle.pragma("freelist_count")),
        page_size=int(handle.pragma("page_size")),
    )
