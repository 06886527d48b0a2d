"""What every answer tells the browser: nothing of others runs in our page, and our page runs in nothing of others."""

from __future__ import annotations

from collections.abc import Iterable

Header = tuple[bytes, bytes]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""No script and no style within a page: both come from files of our own."""

_ALWAYS: tuple[Header, ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # `no-referrer` would have a browser send `Origin: null` with our own forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_PRIVATE: Header = (b"cache-control", b"no-store")
_SECURE: Header = (b"strict-transport-security", b"max-age=31536000")


def protected(headers: Iterable[Header], *, public: bool, secure: bool) -> list[Header]:
    """The headers of an answer with ours; what is not public is kept in no cache, unless it says how.

    A policy of the answer's own stays only where it is stricter, so none does: ours replaces it.
    """
    ours = {name for name, _ in _ALWAYS}
    kept = [(name, value) for name, value in headers if name.lower() not in ours and not _opens(name)]
    found = {name.lower() for name, _ in kept}
    private = () if public or b"cache-control" in found else (_PRIVATE,)
    return [*kept, *_ALWAYS, *private, *((_SECURE,) if secure else ())]


def _opens(name: bytes) -> bool:
    """Whether a header would let other sites read the answer."""
    return name.lower().startswith(b"access-control-")
