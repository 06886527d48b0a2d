"""The named queries of `queries.sql`: a block `NAME_15` stands in for `NAME` from PostgreSQL 15 on; `{{NAME}}` is another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dbupkeep.engines.postgresql.versions import Version


def query(name: str, version: Version) -> str:
    """The text of a named query for a version; what is no name is taken as text."""
    if not name.isidentifier():
        return name
    return _of(name, version.major)


@cache
def _of(name: str, major: int) -> str:
    blocks = _blocks()
    newer = [int(found[1]) for key in blocks if (found := re.fullmatch(rf"{name}_(\d+)", key))]
    fitting = [from_major for from_major in newer if from_major <= major]
    text = blocks[f"{name}_{max(fitting)}"] if fitting else blocks[name]
    return re.sub(r"\{\{(\w+)\}\}", lambda part: _of(part[1], major), text)


@cache
def _blocks() -> Mapping[str, str]:
    text = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}
