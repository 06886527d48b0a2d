"""The fields of a form that was sent; the guard has bounded its body before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, Request

from dbupkeep.errors import UsageError

MOST = 20
"""Fields of one form."""


async def _fields(request: Request) -> Mapping[str, str]:
    text = (await request.body()).decode("ascii", "replace")
    try:
        found = parse_qs(text, max_num_fields=MOST)
    except ValueError as error:
        raise UsageError(f"the form has more than {MOST} fields", hint="send a form of the page") from error
    return {name: values[0].strip() for name, values in found.items()}


Fields = Annotated[Mapping[str, str], Depends(_fields)]
"""A parameter of a route that gets the fields of a form, each once and without blanks around it."""
