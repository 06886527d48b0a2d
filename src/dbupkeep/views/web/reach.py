"""How far a service may be reached: this machine, unless somebody said how what leaves it is kept from others' eyes."""

from __future__ import annotations

import ipaddress
import socket

from dbupkeep.errors import UsageError


def address_of(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """The address that a host is. Raises `UsageError` when it is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"{host!r} is no place to listen on", why=str(getattr(error, "strerror", "") or error).lower(),
            hint="give an address of this machine, such as 127.0.0.1",
        ) from error  # fmt: skip
    return found[0], str(found[4][0])


def check_reach(address: str, *, tls_proxy: bool, plain_http: bool, weak_token: bool) -> str:
    """A warning that belongs to the place, or nothing. Raises `UsageError` where a service must not listen.

    Beyond the machine itself, tokens and what the pages show would travel in the clear: that is only done behind a proxy
    that speaks TLS, or when it was asked for by name.
    """
    if is_loopback(address):
        return ""
    if not (tls_proxy or plain_http):
        raise UsageError(
            f"refusing to listen on {address}, which other machines can reach",
            why="tokens, and all that the pages show, would travel in the clear",
            hint="put a proxy that speaks TLS before it and say tls_proxy = true in [server]; or, within a network that"
            " nobody else reads, plain_http = true",
        )
    if weak_token:
        raise UsageError(
            f"refusing to listen on {address} with so short a token",
            why="DBUPKEEP_TOKEN could be guessed from other machines",
            hint='give one of 32 random bytes:  python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return "" if tls_proxy else f"Other machines reach {address} without TLS: who reads the network reads tokens too."


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
