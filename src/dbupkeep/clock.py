"""The one place that reads clocks and makes identifiers; everywhere else both are parameters."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7


class Clock(Protocol):
    """What the roles need of time."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC: for records, never for leases."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back within one process."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back, also over a suspend where the platform allows it."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def boot_id() -> str:
    """What tells one start of this machine from the next; monotonic seconds only compare within one."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else "unknown"


def process_mark() -> str:
    """What tells this process from all others, also from a later one of the same number; empty where nothing does.

    Two processes may only judge each other by their numbers in one and the same namespace of processes.
    """
    return mark_of(os.getpid())


def mark_of(pid: int) -> str:
    """The mark of a process that is there now; empty when there is none, or no telling."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in "ZX" else f"{namespace} {pid} {started}"


def is_gone(mark: str) -> bool:
    """Whether the process of a mark is known to have ended; False where that cannot be known."""
    namespace, _, rest = mark.partition(" ")
    pid, _, _ = rest.partition(" ")
    own = process_mark()
    return bool(own) and own.partition(" ")[0] == namespace and mark_of(int(pid)) != mark


def new_id() -> str:
    """A fresh identifier; identifiers made later sort later (UUID version 7)."""
    return str(uuid7())
