"""What all models stand on, and the words that several of them use."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(description="Sorts by age.", examples=["019d8a3c-7d2e-7c41-9f0a-6d2b1f4e8a10"])]
Word = Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")]
"""A short text of a request; a ledger can hold no NUL."""

Seconds = Annotated[float, Field(ge=0, description="Seconds.")]
Bytes = Annotated[int, Field(description="Bytes.")]
Moment = Annotated[datetime, Field(description="RFC 3339, UTC.")]
Values = Annotated[dict[str, Any], Field(description="Figures and words of the engine, by name.")]


class Given(BaseModel):
    """Something that is given: every field is always there. Later versions add fields and never remove or rename one."""


class Open(Given):
    """Something that has more fields than those named."""

    model_config = ConfigDict(extra="allow")


class Asked(BaseModel):
    """Something that is asked for: a field that is not known is refused, since it would do nothing."""

    model_config = ConfigDict(extra="forbid")


class Notice(Given):
    """Something that a person should know."""

    code: Annotated[str, Field(description="Stable, for programs.")]
    message: str
    hint: str
    severity: Annotated[str, Field(description="`warning`, `info` or `error`.")]


class Estimate(Given):
    """What an operation is expected to take and to give."""

    seconds: Seconds | None
    seconds_source: Annotated[
        Literal["measured", "history", "estimated", "unknown"],
        Field(description="`history`: of this database; `estimated`: a formula, or others' rate."),
    ]
    gain_bytes: Bytes | None
    gain_source: Literal["measured", "history", "estimated", "unknown"]
    stall_seconds: Annotated[float | None, Field(description="For how long others may have to wait.")]


class Fault(Given):
    """One thing that a request has wrong."""

    at: Annotated[str, Field(description="Where in the request: `body/targets/0`.")]
    detail: str


class Problem(Given):
    """What went wrong with a request: RFC 9457."""

    type: Annotated[str, Field(description="Ends with the kind. There is no page at that address.")]
    title: str
    status: int
    kind: Annotated[str, Field(description="The class of error, as on the command line and in a failed job.")]
    detail: Annotated[str, Field(description="What happened, and why.")]
    hint: Annotated[str, Field(description="What to do next, where that is known.")] = ""
    errors: list[Fault] = Field(default_factory=list, description="Of a request that is not what the route takes.")
