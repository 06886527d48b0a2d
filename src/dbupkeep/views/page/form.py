"""The fields of a form that was sent; the guard has bounded its body before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, Request

MOST = 20
"""Fields of one form."""


async def _fields(request: Request) -> Mapping[str, str]:
    text = (await request.body()).decode("ascii", "replace")
    return {name: values[0].strip() for name, values in parse_qs(text, max_num_fields=MOST).items()}


Fields = Annotated[Mapping[str, str], Depends(_fields)]
"""A parameter of a route that gets the fields of a form, each once and without blanks around it."""
