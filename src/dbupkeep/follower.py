"""The port to whatever follows the ledger's events: counts them, or tells somebody outside.

A follower has a place in the events and a memory, both kept in the ledger with the messages that still have to be
delivered: in one document, so that a process may be killed at any moment and nothing is lost, counted twice or told in
another order. A message may be delivered twice, with the same id: receivers drop the second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct, field

from dbupkeep.events import Recorded

Memory = dict[str, Any]
"""What a follower remembers, as JSON values."""


class Message(Struct, frozen=True, kw_only=True):
    """Something to be delivered."""

    id: str  # the same however often it is delivered
    kind: str
    at: datetime  # when it happened
    title: str = ""
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


class Undelivered(Exception):
    """A message could not be delivered; it is tried again later.

    The reason is for people and logs: it never has a receiver's url or secret in it. `refused`: the receiver says that it is
    this message that it does not take, so that trying for days would only hold up those behind it.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        """Keep why."""
        super().__init__(reason)
        self.reason = reason
        self.refused = refused


class Follower(Protocol):
    """Makes messages of events, and delivers them."""

    @property
    def name(self) -> str:
        """Under which its place, memory and messages are kept; `notify:ops`."""
        ...

    @property
    def from_start(self) -> bool:
        """Whether it begins with the first event that there is, or with those that are still to come."""
        ...

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """Take events in, change the memory, and say what is to be delivered; also called now and then without events.

        The same events on the same memory give the same messages, with the same ids: what was not kept is done again.
        """
        ...

    def deliver(self, message: Message) -> None:
        """Deliver one message within seconds. Raises `Undelivered`."""
        ...
