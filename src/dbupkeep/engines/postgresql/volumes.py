"""Free space on the server's volumes: known only where the server is on this machine, and that can be proved."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from dbupkeep.facts import Value

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_LOCAL = ("127.0.0.1", "::1", "localhost")


def free(handle: Handle) -> str:
    """Free bytes by OID of the tablespace (0: the database's own) and for WAL, as JSON; empty where they cannot be known."""
    if not on_this_machine(handle):
        return "{}"
    found: dict[str, int] = {}
    for row in handle.once("volumes"):
        if row["folder"]:
            try:
                status = os.statvfs(row["folder"])
                device = Path(row["folder"]).stat().st_dev
            except OSError:
                continue
            found[str(row["place"])] = status.f_bavail * status.f_frsize
            found[f"{row['place']} is on"] = device
    return json.dumps(found)


def of_tablespace(text: Value, tablespace: int) -> int | None:
    """What `free` said of one tablespace."""
    return _known(text).get(str(tablespace))


def of_wal(text: Value) -> int | None:
    """What `free` said of the volume of the WAL."""
    return _known(text).get("wal")


def together(text: Value, tablespace: int) -> bool:
    """Whether a tablespace is known to be on the volume of the WAL."""
    found = _known(text)
    device = found.get("wal is on")
    return device is not None and found.get(f"{tablespace} is on") == device


def _known(text: Value) -> dict[str, int]:
    found: dict[str, int] = json.loads(str(text or "{}"))
    return found


def on_this_machine(handle: Handle) -> bool:
    """Whether the process that serves us is seen here, with our end of the connection in its title.

    The host alone proves nothing: a tunnel or a container's port looks the same.
    """
    host = handle.connection.info.host
    local = host.startswith("/")
    if not local and host not in _LOCAL:
        return False
    try:
        title = Path(f"/proc/{handle.identity.pid}/cmdline").read_bytes().decode("utf-8", "replace")
        own = socket.socket(fileno=os.dup(handle.connection.fileno()))
    except (OSError, ValueError):
        return False
    with own:
        mark = "[local]" if local else f"({own.getsockname()[1]})"
    return title.startswith("postgres:") and mark in title
