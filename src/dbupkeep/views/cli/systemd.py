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
# A stop lets what runs come to its end for --grace (20 minutes), then stops it; what cannot be stopped is killed after
# this long. Either is made again at the next start.
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
# Databases may lie anywhere and hooks may be any program, so both keep their rights; the system itself is closed to them.
# Processes of others stay visible (no ProtectProc, no PrivateTmp): who else has a SQLite file open is read from there.
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

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
