"""What a cut-off operation leaves behind. VACUUM and ANALYZE leave nothing in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbupkeep.engine import Evidence, Leftover
from dbupkeep.errors import Refused
from dbupkeep.plans import PlanItem

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle


def find(handle: Handle) -> list[Leftover]:
    """Everything that lies about. Changes nothing."""
    return []


def clean(handle: Handle, leftover: Leftover) -> None:
    """Remove one. Raises `Refused` for what is not proved ours."""
    raise Refused(f"{leftover.name} is not removed", why="it is not known to be ours", hint="remove it by hand")


def recover(handle: Handle, item: PlanItem, tag: str) -> Evidence | None:
    """Before an attempt after a lost one."""
    return None
