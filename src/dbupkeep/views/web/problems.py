"""Errors as RFC 9457 problem documents (`application/problem+json`): status, type, title, detail, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from dbupkeep.errors import IllegalTransition, Kind, LedgerError, TargetError, UnknownName, UpkeepError, UsageError

PROBLEM = "application/problem+json"

TYPES = "https://dbupkeep.invalid/problems/"
"""What a problem's type begins with; its end is the kind of the error, as on the command line. No page is there."""

STATUSES: Mapping[type[UpkeepError], int] = {
    UnknownName: 404,
    UsageError: 422,
    IllegalTransition: 409,
    TargetError: 409,
    LedgerError: 503,
    UpkeepError: 500,
}


TITLES: Mapping[int, str] = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Where the names of RFC 9110 are not those of every Python."""

SAID: Mapping[int, str] = {
    400: "the request cannot be read",
    404: "there is nothing at this path",
    405: "the method is none of this path",
}
"""What the framework itself refuses, in our words."""


class Problem(Exception):
    """Something that a route refuses by itself."""

    def __init__(
        self, status: int, kind: str, detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Keep what the document will say."""
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The document."""
        return problem(self.status, self.kind, self.detail, hint=self.hint, headers=self.headers)


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    hint: str = "",
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A problem document as a response."""
    document: dict[str, Any] = {
        "type": f"{TYPES}{kind}",
        "title": TITLES.get(status) or HTTPStatus(status).phrase,
        "status": status,
        "kind": kind,
        "detail": detail,
    }
    document.update({name: said for name, said in (("hint", hint), ("errors", errors)) if said})
    return JSONResponse(document, status, media_type=PROBLEM, headers=dict(headers or {}))


def tell_problems(site: FastAPI) -> None:
    """Have every error of a site told as a problem document."""

    @site.exception_handler(Problem)
    def refused(_request: Request, error: Problem) -> JSONResponse:
        return error.response()

    @site.exception_handler(UpkeepError)
    def upkeep(_request: Request, error: UpkeepError) -> JSONResponse:
        status = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
        return problem(status, error.kind.value, error.message, hint=error.hint)

    @site.exception_handler(HTTPException)
    def http(_request: Request, error: HTTPException) -> JSONResponse:
        kind = HTTPStatus(error.status_code).name.lower()
        return problem(error.status_code, kind, SAID.get(error.status_code, str(error.detail)), headers=error.headers)

    @site.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if any(each["type"] == "json_invalid" for each in error.errors()):
            return problem(400, "bad_request", "the body is not JSON", hint="send a JSON object")
        if request.headers.get("content-length", "0") != "0" and not _is_json(request):
            return problem(
                422,
                "usage",
                "the request does not say that its body is JSON",
                hint="send Content-Type: application/json",
            )
        return problem(422, "usage", "the request is not what this route takes", errors=_faults(error))

    @site.exception_handler(Exception)
    def failed(_request: Request, _error: Exception) -> JSONResponse:  # whoever called us is given it, and logs it
        return problem(500, Kind.BUG.value, "the request failed; the log of the service says why")


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _faults(error: RequestValidationError) -> list[dict[str, str]]:
    """What is wrong; of a body that may be one of several, only as the one that it begins to be."""
    found = [(tuple(str(part) for part in each["loc"]), each["type"], each["msg"]) for each in error.errors()]
    absent = {at[1]: at[2] for at, kind, _ in found if _is_one_of(at) and kind == "missing"}
    left = [(at, said) for at, _, said in found if not (_is_one_of(at) and at[1] in absent)]
    if absent and not left:
        names = " or ".join(f"`{name}`" for name in dict.fromkeys(absent.values()))
        return [{"at": "body", "detail": f"it does not say what to do: give {names}"}]
    return [{"at": "/".join(at[:1] + at[2:] if _is_one_of(at) else at), "detail": said} for at, said in left]


def _is_one_of(at: tuple[str, ...]) -> bool:
    """Whether a place is in one of the things that a body may be, which the framework names by their classes."""
    return len(at) > 2 and at[0] == "body" and at[1].startswith("Of")  # noqa: PLR2004
