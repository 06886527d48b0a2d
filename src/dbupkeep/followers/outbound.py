"""One HTTP request to a receiver outside, made so that it can go nowhere else.

A receiver's name is looked up once, every address is judged, and the connection is made to one of those addresses: what the
name means a moment later does not matter. There is no proxy and no redirect, TLS unless the receiver may be in a private
network, a few seconds for all of it, and of the answer nothing but its status is used.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Self
from urllib.parse import urlsplit

from msgspec import Struct
from typing_extensions import override

from dbupkeep.follower import Undelivered

SECONDS = 5.0
"""For the whole request, from connecting to the head of the answer."""

SCHEMES = {"https": 443, "http": 80}

REFUSED = frozenset({400, 413, 415, 422})
"""Statuses by which a receiver says that it is this message that it does not take."""

NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


class Unreached(Exception):
    """The request was not made, or came to nothing. What it says has neither the url nor its secrets in it."""


class Reach(Struct, frozen=True, kw_only=True):
    """Where requests of a receiver may go."""

    private: bool = False  # to private and loopback addresses too, there also without TLS
    hosts: tuple[str, ...] = ()  # globs; empty: the host of its url, whatever it is


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. Raises `OSError`."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def is_public(address: Address) -> bool:
    """Whether anybody on the internet has it; of an address within an address, that one counts."""
    if inner := _within(address):
        return is_public(inner)
    return address.is_global and not address.is_multicast


def is_local(address: Address) -> bool:
    """Whether it is of a private network or of this machine; where other things are found (metadata of clouds) it is not."""
    if inner := _within(address):
        return is_local(inner)
    away = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return address.is_loopback or (address.is_private and not away)


def send(
    url: str,
    *,
    reach: Reach,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    lookup: Resolve = resolve,
    seconds: float = SECONDS,
) -> int:
    """POST to the url; returns the status of the answer. Raises `Unreached`."""
    place = _Place.of(url, reach)
    addresses = place.addresses(reach, lookup)
    reason = "it has no address"
    with _Deadline(seconds) as deadline:
        for address in addresses:
            connection = _Pinned(place, address, deadline)
            try:
                connection.request("POST", place.path, body=body, headers={"User-Agent": "dbupkeep", **(headers or {})})
                status = connection.getresponse().status
                if not deadline.passed:  # else it was cut off in the middle of an answer
                    return status
            except (OSError, HTTPException) as error:
                deadline.passed |= isinstance(error, TimeoutError)
                reason = _told(error)
            finally:
                connection.close()
            if deadline.passed:
                raise Unreached(f"{place.host} did not answer within {seconds:g} s")
    raise Unreached(f"{place.host} cannot be reached: {reason}")


def deliver(url: str, *, reach: Reach, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """POST a message to the url; only an answer of 2xx is a delivery. Raises `Undelivered`."""
    try:
        status = send(url, reach=reach, body=body, headers=headers)
    except Unreached as error:
        raise Undelivered(str(error)) from None
    if not 200 <= status < 300:  # noqa: PLR2004 - the class of success
        redirected = ", and redirects are not followed" if 300 <= status < 400 else ""  # noqa: PLR2004 - as above
        raise Undelivered(f"the receiver answered {status}{redirected}", refused=status in REFUSED)


class _Place(Struct, frozen=True, kw_only=True):
    """A url taken apart and judged, as far as that goes without looking up its name."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str, reach: Reach) -> _Place:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Unreached("its url is none") from None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in SCHEMES or not host or not url.isascii() or not url.isprintable() or " " in url:
            raise Unreached("its url is none that begins with https://")
        if parts.username is not None or parts.password is not None:
            raise Unreached("its url has a user or a password in it, which are not sent")
        if parts.scheme == "http" and not reach.private:
            raise Unreached("its url begins with http://, which only a receiver in a private network may")
        if reach.hosts and not any(fnmatchcase(host, each.lower()) for each in reach.hosts):
            raise Unreached(f"{host} is none of the hosts that messages may go to")
        path = parts.path or "/"
        return cls(
            host=host, port=port or SCHEMES[parts.scheme], tls=parts.scheme == "https",
            path=f"{path}?{parts.query}" if parts.query else path,
        )  # fmt: skip

    def addresses(self, reach: Reach, lookup: Resolve) -> Sequence[str]:
        """Where to connect to: all that the name has, if each of them may be."""
        try:
            found = lookup(self.host, self.port)
        except (OSError, UnicodeError):
            raise Unreached(f"{self.host} is not known to the name service") from None
        for each in found:
            address = ip_address(each.partition("%")[0])
            local = reach.private and is_local(address)
            if not local and not (is_public(address) and self.tls):
                raise Unreached(f"{self.host} is at {address}, where messages may not go{_why(address, reach)}")
        return found


class _Deadline:
    """The end of a request: each step may take all of its time, so a timer sees to the sum."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self.sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        if self.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # below TLS, which another thread is at work on


class _Pinned(HTTPConnection):
    """A connection to an address that was judged; the name only says whose certificate is wanted."""

    def __init__(self, place: _Place, address: str, deadline: _Deadline) -> None:
        super().__init__(place.host, place.port, timeout=deadline.seconds)
        self._address = address
        self._deadline = deadline
        self._tls = place.tls

    @override
    def connect(self) -> None:
        self.sock = self._deadline.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._deadline.passed:
            raise TimeoutError
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
            self._deadline.sock = self.sock


def _within(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo[1] if address.teredo else None
    compatible = IPv4Address(int(address)) if 1 < int(address) < 1 << 32 else None
    return address.ipv4_mapped or address.sixtofour or teredo or compatible


def _why(address: Address, reach: Reach) -> str:
    if not reach.private and is_local(address):
        return ": it is in a private network, which the receiver must be allowed (private = true)"
    return ": there without TLS" if is_public(address) else ""


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
