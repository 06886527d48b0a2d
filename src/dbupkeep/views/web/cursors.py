"""Where the next page of a list begins: a word that means nothing to who carries it, and stays good while the list grows."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from fastapi import Request

from dbupkeep.views.web.problems import Problem

LONGEST = 400
"""Characters of a cursor."""


def cursor_of(kind: str, *place: str | int) -> str:
    """The word for a place in a kind of list."""
    return urlsafe_b64encode(json.dumps([kind, *place], separators=(",", ":")).encode()).decode().rstrip("=")


def place_of(cursor: str, kind: str, *types: type) -> tuple[str | int, ...]:
    """The place that a cursor of this kind of list stands for. Raises `Problem` 422 for any other word."""
    try:
        found = json.loads(urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        found = None
    expected = [str, *types]
    if not isinstance(found, list) or [type(each) for each in found] != expected or found[0] != kind:
        raise no_cursor()
    return tuple(found[1:])


def no_cursor() -> Problem:
    """The refusal of a word that no page of the list gave."""
    return Problem(422, "usage", "the cursor is none of this list", hint="follow the `next` link of a page as it is")


def next_link(request: Request, **query: str | int) -> dict[str, str]:
    """The header that says where the next page is (RFC 8288): the same request, from there on."""
    there = request.url.include_query_params(**query)
    return {"Link": f'<{there.path}?{there.query}>; rel="next"'}
