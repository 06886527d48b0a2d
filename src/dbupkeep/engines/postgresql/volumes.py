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
    """Free bytes by OID of the tablespace (0: the default one), as JSON; empty where they cannot be known."""
    if not on_this_machine(handle):
        return "{}"
    found = {}
    for row in handle.rows("volumes"):
        if row["folder"]:
            try:
                status = os.statvfs(row["folder"])
            except OSError:
                continue
            found[str(row["tablespace"])] = status.f_bavail * status.f_frsize
    return json.dumps(found)


def of_tablespace(text: Value, tablespace: int) -> int | None:
    """What `free` said of one tablespace."""
    found: dict[str, int] = json.loads(str(text or "{}"))
    return found.get(str(tablespace))


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
