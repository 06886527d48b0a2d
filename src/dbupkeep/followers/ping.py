"""Dead-man pings, as Healthchecks takes them: a run has begun, went well, or failed; whoever hears nothing raises the alarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

from dbupkeep.events import JobSubmitted, ParentSettled, Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.jobs import Job, JobType, Outcome
from dbupkeep.ledger import Reader
from dbupkeep.notifications import Notifier, Told
from dbupkeep.outbound import Reach, Unreached, send
from dbupkeep.secret import Secret, Unreadable

START, SUCCESS, FAIL, LOG = "start", "success", "fail", "log"

SIGNALS: Mapping[str, str] = {
    Outcome.DONE: SUCCESS,
    Outcome.NOTHING_TO_DO: SUCCESS,
    Outcome.FAILED: FAIL,
    Outcome.PARTIAL: FAIL,
}
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
        self._reader = reader
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
            status = send(url, reach=self._reach, body=message.text.encode()[:LONGEST_BODY])
        except (Unreadable, Unreached, ValueError) as error:
            raise Undelivered(str(error)) from None
        if not 200 <= status < 300:  # noqa: PLR2004 - the class of success
            raise Undelivered(f"the receiver answered {status}")

    def _pings(self, memory: Memory, recorded: Recorded) -> Iterable[Message]:
        event = recorded.event
        told = self._notifier.take(memory, recorded)  # what the run comes to, for the body
        if recorded.job_id != recorded.correlation_id:
            return
        if isinstance(event, JobSubmitted) and self._is_ours(self._reader.job(recorded.job_id)):
            yield _ping(recorded, START, f"{self._job} has begun")
        elif isinstance(event, ParentSettled):
            kind = SIGNALS.get(event.outcome, LOG)
            yield from (
                _ping(recorded, kind, f"{message.title}\n{message.text}")
                for message in told
                if message.kind == Told.ENDED
            )

    def _is_ours(self, run: Job | None) -> bool:
        return run is not None and run.type == JobType.MAINTENANCE_RUN and run.name == self._job


def ping_url(url: str, signal: str, run_id: str) -> str:
    """Where a signal goes: `/start`, `/fail` and `/log` behind the check's own url, and which run it is of."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + ("" if signal == SUCCESS else f"/{signal}")
    query = "&".join(part for part in (parts.query, f"rid={run_id}") if part)
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _ping(recorded: Recorded, kind: str, text: str) -> Message:
    run_id = recorded.correlation_id
    return Message(id=f"ping_{run_id}_{recorded.seq}", kind=kind, at=recorded.at, text=text, data={"run_id": run_id})
