"""Dead-man pings, as Healthchecks takes them: a run has begun, went well, or failed; whoever hears nothing raises the alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from dbupkeep.events import JobSubmitted, ParentSettled, Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.followers import outbound
from dbupkeep.followers.notifications import BAD, GOOD, RESULTS, Notifier, Told
from dbupkeep.followers.outbound import Reach
from dbupkeep.ledger import Reader
from dbupkeep.secret import Secret, Unreadable

START, SUCCESS, FAIL, LOG = "start", "success", "fail", "log"

SIGNALS: Mapping[str, str] = {GOOD: SUCCESS, BAD: FAIL}
"""What an outcome is; one that is neither (deferred, cancelled, stopped) is only logged, so that silence still counts."""

LONGEST_BODY = 10_000  # bytes


class PingFollower:
    """Fulfils `dbupkeep.follower.Follower`."""

    from_start = False

    def __init__(self, job: str, *, url: Secret, reach: Reach, reader: Reader) -> None:
        """Pings for the runs of one job."""
        self.name = f"ping:{job}"
        self._job = job
        self._url = url
        self._reach = reach
        self._notifier = Notifier(reader, [job], [Told.ENDED])

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """A ping for each begin and end of a run, in order."""
        pings: list[Message] = []
        for recorded in events:
            pings += self._pings(memory, recorded)
        return pings

    def deliver(self, message: Message) -> None:
        """Ping. Raises `Undelivered`."""
        try:
            url = ping_url(self._url.read(), message.kind, str(message.data["run_id"]))
            outbound.deliver(url, reach=self._reach, body=message.text.encode()[:LONGEST_BODY])
        except (Unreadable, ValueError) as error:
            raise Undelivered(str(error)) from None

    def _pings(self, memory: Memory, recorded: Recorded) -> Iterable[Message]:
        event = recorded.event
        told = self._notifier.take(memory, recorded)  # what the run comes to, for the body
        if recorded.job_id != recorded.correlation_id:
            return
        if isinstance(event, JobSubmitted) and self._notifier.job_of(recorded.correlation_id):
            yield _ping(recorded, START, f"{self._job} has begun")
        elif isinstance(event, ParentSettled):
            kind = SIGNALS.get(RESULTS.get(event.outcome, ""), LOG)
            yield from (
                _ping(recorded, kind, f"{message.title}\n{message.text}")
                for message in told
                if message.kind == Told.ENDED
            )


def ping_url(url: str, signal: str, run_id: str) -> str:
    """Where a signal goes: `/start`, `/fail` and `/log` behind the check's own url, and which run it is of."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + ("" if signal == SUCCESS else f"/{signal}")
    query = "&".join(part for part in (parts.query, f"rid={run_id}") if part)
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _ping(recorded: Recorded, kind: str, text: str) -> Message:
    run_id = recorded.correlation_id
    return Message(id=f"ping_{run_id}_{recorded.seq}", kind=kind, at=recorded.at, text=text, data={"run_id": run_id})
