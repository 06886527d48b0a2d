"""Messages to the hundred services that Apprise knows; the extra `notify` brings it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from dbupkeep.events import Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.followers.notifications import FLAPPING, Notifier, Told
from dbupkeep.secret import Secret, Unreadable

TYPES: Mapping[str, str] = {
    Told.FAILED: "failure",
    Told.RECOVERED: "success",
    Told.DEFERRED: "warning",
    Told.WINDOW_MISSED: "warning",
    Told.WINDOW_OVERRUN: "warning",
    FLAPPING: "warning",
}
"""How a service may colour a message; `info` for all others."""


class AppriseFollower:
    """Fulfils `dbupkeep.follower.Follower`."""

    from_start = False

    def __init__(self, name: str, *, urls: Secret, notifier: Notifier) -> None:
        """`urls` are Apprise's own, separated by spaces or lines; they have secrets in them."""
        self.name = f"notify:{name}"
        self._urls = urls
        self._notifier = notifier

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """What is to be told."""
        return self._notifier.fold(memory, events, now)

    def deliver(self, message: Message) -> None:
        """Have Apprise deliver it to all of its urls. Raises `Undelivered`."""
        try:
            import apprise
        except ModuleNotFoundError:
            raise Undelivered("Apprise is not installed: pip install 'dbupkeep[notify]'") from None
        logging.getLogger("apprise").disabled = True  # it logs urls with their secrets; what went wrong is said here
        asset = apprise.AppriseAsset(app_id="dbupkeep", app_desc="dbupkeep", app_url="", async_mode=False)
        service = apprise.Apprise(asset=asset)
        try:
            known = [service.add(url) for url in self._urls.read().split()]
        except Unreadable as error:
            raise Undelivered(str(error)) from None
        if not all(known):
            raise Undelivered(f"Apprise does not know {known.count(False)} of {len(known)} urls")
        kind = TYPES.get(message.kind, "info")
        if not service.notify(title=message.title, body=message.text, notify_type=apprise.NotifyType(kind)):
            raise Undelivered("Apprise could not deliver it to all of its urls")
