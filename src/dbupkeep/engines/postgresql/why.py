"""What keeps maintenance of an object from helping, and what to do first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbupkeep.engine import Finding

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle


def why(handle: Handle, object: str) -> list[Finding]:
    """Look for it, most important first. Raises `Missing` for an object that is not there."""
    return []
