"""What is behind the question mark of a request."""

from __future__ import annotations

from collections import Counter

from fastapi import Request

from dbupkeep.views.web.problems import Problem

MANY = frozenset({"status", "type"})
"""Parameters that may come several times: any of these is meant."""


async def said_once(request: Request) -> None:  # waits for nothing; a plain function would get a thread
    """Refuse a parameter that comes twice: whoever reads it next may believe the other one. Raises `Problem` 422."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    for name, count in counts.items():
        if count > 1 and name not in MANY:
            raise Problem(422, "usage", f"the parameter {name!r} came {count} times", hint="send it once")
