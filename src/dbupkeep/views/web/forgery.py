"""Requests that another site has a browser make. What a browser says of where a request comes from is believed only when it says it.

A cookie is sent along by the browser, so it alone proves nothing: a change needs the token of this session in the page
too, and an origin that is ours. A bearer token is never sent by itself, so it needs neither.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

FIELD = "csrf_token"
"""The form field that carries the token of the session."""

HEADER = "x-csrf-token"
"""The header that carries it from the script."""


def csrf_of(session: str) -> str:
    """What the page of a session carries, and another site cannot know: made of the session's secret, and not leading back to it."""
    return hmac.new(session.encode(), b"dbupkeep csrf", hashlib.sha256).hexdigest()


def foreign(headers: Mapping[str, str], *, method: str, scheme: str) -> str:
    """Why a request is another site's doing, as far as its headers say; empty when they do not say so.

    A reader may follow a link to here from anywhere; nothing else may be fetched from elsewhere, not even read.
    """
    site = headers.get("sec-fetch-site", "")
    if site and site not in ("same-origin", "none") and not _followed_a_link(headers, method):
        return f"the browser says that it comes from another site ({site})"
    origin = headers.get("origin")
    if origin is not None and origin != f"{scheme}://{headers.get('host', '')}".lower():
        return "its Origin is not this site"
    return ""


def unproven(headers: Mapping[str, str], *, session: str, given: str) -> str:
    """Why a change that came with a cookie is not shown to be wanted; empty when it is."""
    if "origin" not in headers:
        return "it has no Origin"
    if not hmac.compare_digest(given.encode(errors="replace"), csrf_of(session).encode()):
        return f"the token of the page ({FIELD}, or the header {HEADER}) is missing or of another session"
    return ""


def _followed_a_link(headers: Mapping[str, str], method: str) -> bool:
    return (
        method in SAFE and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )
