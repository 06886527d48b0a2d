"""What routes that make something have in common: the key of a request, and the order that it is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from dbupkeep.views.api.models.asked import OfDefinition, OfTargets
from dbupkeep.views.web.once import LONGEST
from dbupkeep.views.web.orders import Order

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=LONGEST, pattern=r"^[\x21-\x7e]+$",
        description="A word of your own for this request: sent again with it, it makes nothing new.",
    ),
]  # fmt: skip


def order_of(asked: OfDefinition | OfTargets, *, by: str) -> Order:
    """The order of a request."""
    return Order(
        definition=asked.definition if isinstance(asked, OfDefinition) else "",
        targets=tuple(asked.targets) if isinstance(asked, OfTargets) else (),
        operations=tuple(asked.operations or ()),
        policy=asked.policy or "",
        force=asked.force,
        consents=frozenset(asked.consents),
        any_time=asked.any_time,
        by=by,
    )
