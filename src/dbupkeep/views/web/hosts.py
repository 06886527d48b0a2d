"""Which names a site answers to. A foreign name that leads here is an attack: DNS rebinding reads a site of one's own machine."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "dbupkeep.localhost")
"""Always answered to. The last one is for browsers, whose cookies know no ports: it is shared with no other service."""

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}))(?::(?P<port>[0-9]{1,5}))?")


class Hosts(Struct, frozen=True):
    """The names that are answered to, each with a port where only that one counts."""

    names: frozenset[str]

    @classmethod
    def of(cls, configured: Iterable[str] = (), *, bound: str = "") -> Hosts:
        """Loopback names, the address that the server is bound to (an address cannot be rebound), and configured ones."""
        own = [f"[{bound}]" if ":" in bound else bound] if bound and bound not in ("0.0.0.0", "::") else []  # noqa: S104 - compared
        return cls(frozenset(name.lower() for name in (*LOOPBACK, *own, *configured)))

    def answers(self, host: str) -> bool:
        """Whether a Host header names this site. What is not written exactly like a host is none."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        return found["name"].lower() in self.names or host.lower() in self.names
