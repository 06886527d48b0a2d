"""Signed webhooks: Standard Webhooks 1.0.0 around a CloudEvents 1.0 document."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from dbupkeep.clock import Clock
from dbupkeep.codec import rfc3339
from dbupkeep.events import Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.followers import outbound
from dbupkeep.followers.notifications import Notifier
from dbupkeep.followers.outbound import Reach
from dbupkeep.secret import Secret, Unreadable

CONTENT_TYPE = "application/cloudevents+json"

SHORTEST_KEY, LONGEST_KEY = 24, 64  # bytes


class WebhookFollower:
    """Fulfils `dbupkeep.follower.Follower`."""

    from_start = False

    def __init__(
        self, name: str, *, url: Secret, secret: Secret, reach: Reach, notifier: Notifier, clock: Clock
    ) -> None:
        """`secret` is `whsec_` with a key in base64; several, separated by spaces, while one is being replaced."""
        self.name = f"notify:{name}"
        self._url = url
        self._secret = secret
        self._reach = reach
        self._notifier = notifier
        self._clock = clock

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """What is to be told."""
        return self._notifier.fold(memory, events, now)

    def deliver(self, message: Message) -> None:
        """POST it, signed for this moment. Raises `Undelivered`."""
        body = json.dumps(cloud_event(message), ensure_ascii=False, separators=(",", ":")).encode()
        try:
            keys = keys_of(self._secret.read())
            headers = {"Content-Type": CONTENT_TYPE, **signed(message.id, self._clock.now(), body, keys)}
            outbound.deliver(self._url.read(), reach=self._reach, body=body, headers=headers)
        except (Unreadable, ValueError) as error:
            raise Undelivered(str(error)) from None


def cloud_event(message: Message) -> dict[str, Any]:
    """A message as a CloudEvents document. Its id is the same however often it is sent."""
    subject = str(message.data.get("run_id") or message.data.get("job") or "")
    return {
        "specversion": "1.0",
        "id": message.id,
        "source": f"/dbupkeep/jobs/{quote(str(message.data.get('job', '')), safe='')}".rstrip("/"),
        "type": f"dbupkeep.{message.kind}",
        "time": rfc3339(message.at),
        **({"subject": subject} if subject else {}),
        "datacontenttype": "application/json",
        "data": {"title": message.title, "text": message.text, **message.data},
    }


def signed(message_id: str, now: datetime, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers: id, time in seconds, and a signature by each key."""
    seconds = int(now.timestamp())
    content = f"{message_id}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def keys_of(text: str) -> list[bytes]:
    """The keys in a secret. Raises `ValueError`, which does not repeat it."""
    keys = []
    for part in text.split():
        try:
            key = base64.b64decode(part.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the secret is none: it is whsec_ and 24 to 64 bytes in base64") from None
        if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
            raise ValueError(f"the secret has {len(key)} bytes, where {SHORTEST_KEY} to {LONGEST_KEY} are wanted")
        keys.append(key)
    return keys
