"""Answers of the API: JSON with a tag of its content, and what a request says of the content that it has already.

The tag of a job has two parts, `"STATE.CONTENT"`. `If-None-Match` goes by the whole of it. `If-Match` goes by the state
alone: what was decided of a job, and not how far it is, so that a verb is not refused because work went on meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from fastapi import Request, Response

from dbupkeep.documents import Document
from dbupkeep.jobs import Job
from dbupkeep.views.web.problems import Problem

API = "/api/v1"
"""Where the API begins."""

JSON = "application/json"

_ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def written(document: Any) -> bytes:  # noqa: ANN401 - JSON
    """A document as bytes; a number that JSON does not have is nothing."""
    try:
        return _ENCODE(document).encode("ascii")
    except ValueError:
        return _ENCODE(_finite(document)).encode("ascii")


def answer(
    request: Request, document: Document, *, status: int = 200, of: Job | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """The document; or, to a read by who has it already, that nothing changed. `of` is the job that it is about."""
    body = written(document)
    etag = f'"{state_of(of)}.{_digest(body)}"' if of else f'"{_digest(body)}"'
    sent = {"ETag": etag, "Cache-Control": "private, no-cache", **(headers or {})}
    if request.method == "GET" and _has(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=sent)
    return Response(body, status, media_type=JSON, headers=sent)


def place_at(request: Request, path: str) -> dict[str, str]:
    """The header that says where something new is found, below the root of the API."""
    root = request.scope.get("root_path", "").rstrip("/")
    return {"Location": f"{root}{API}/{path}"}


def state_of(job: Job) -> str:
    """What was decided of a job: another one where anything but its progress and its children's changed."""
    decided = (
        job.id, job.status, job.attempt, job.outcome, job.paused, job.cancel_requested, job.stop_requested, job.at_a_time,
        job.until, job.finished_at,
    )  # fmt: skip
    return _digest(repr(decided).encode())


def check_unchanged(request: Request, job: Job) -> None:
    """See that a job is as the one who asks has seen it. Raises `Problem` 412."""
    wanted = request.headers.get("if-match", "").strip()
    if wanted in ("", "*"):
        return
    state = state_of(job)
    if all(each.strip('"').partition(".")[0] != state for each in _tags(wanted) if not each.startswith("W/")):
        raise Problem(
            412, "precondition_failed", f"the job {job.id} is not any more as you have seen it: it is {job.status}",
            hint="get it again, and decide then",
        )  # fmt: skip


def _has(wanted: str, etag: str) -> bool:
    return wanted.strip() == "*" or etag in (each.removeprefix("W/") for each in _tags(wanted))


def _tags(header: str) -> list[str]:
    return [each.strip() for each in header.split(",")]


def _digest(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
