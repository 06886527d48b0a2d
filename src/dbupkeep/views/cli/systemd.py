"""What systemd is told by a service, and the unit that has systemd start it."""

from __future__ import annotations

import os
import socket

UNIT = """\
[Unit]
Description=dbupkeep: maintenance of databases by schedule
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
User={user}
Restart=on-failure
RestartSec=5
# A stop lets what runs come to its end; after this long it is killed, and taken over at the next start.
TimeoutStopSec=30min
# Only the service itself is told to stop: it tells its workers.
KillMode=mixed
WatchdogSec=120
# Partial or deferred work is no failure of the service.
SuccessExitStatus=3 4
Environment=DBUPKEEP_LEDGER=%S/dbupkeep/ledger.db
StateDirectory=dbupkeep
StateDirectoryMode=0700
UMask=0077
IOSchedulingClass=idle
Nice=10
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


def unit(*, command: str, user: str) -> str:
    """The text of a service unit."""
    return UNIT.format(command=command, user=user)


def notify(message: str) -> bool:
    """Tell systemd, where it started us: `READY=1`, `WATCHDOG=1`, `STOPPING=1`. False where nobody listens."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        try:
            line.connect(f"\0{place[1:]}" if place.startswith("@") else place)
            line.sendall(message.encode())
        except OSError:
            return False
    return True
