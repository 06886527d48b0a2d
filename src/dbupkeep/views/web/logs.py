"""What happened to a job and all below it, a sentence each, with the product's own words. For API and page."""

from __future__ import annotations

from msgspec import Struct, field

from dbupkeep.codec import rfc3339
from dbupkeep.documents import Document
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job
from dbupkeep.ledger import Reader
from dbupkeep.views.plain import event_line
from dbupkeep.views.watching import Watch

PAGE = 500
"""Events that are read in one go."""

PAGES = 20
"""How often that is done to fill one page of a log: of a small part of a big run a page may be short."""


class Log(Struct, kw_only=True):
    """Some lines, and where the next ones begin."""

    lines: list[Document] = field(default_factory=list)
    after: int = 0
    whole: bool = False  # there are no more for now


def log_of(reader: Reader, job: Job, *, after: int, limit: int) -> Log:
    """Up to `limit` lines of what happened after a number."""
    watch, log = Watch(reader=reader, root_id=job.correlation_id), Log(after=after)
    for _ in range(PAGES):
        events = reader.events(log.after, correlation_id=job.correlation_id, limit=PAGE)
        for recorded in events:
            line = _line(recorded, watch) if _is_below(recorded.job_id, job, watch) else None
            if line is not None and len(log.lines) == limit:
                return log
            log.after = recorded.seq
            if line is not None:
                log.lines.append(line)
        if len(events) < PAGE:
            log.whole = True
            break
    return log


def _is_below(job_id: str, above: Job, watch: Watch) -> bool:
    """Whether a job is this one, or below it."""
    if above.is_root or job_id == above.id:
        return True
    job = watch.job(job_id)
    return job is not None and not job.is_root and _is_below(job.parent_id, above, watch)


def _line(recorded: Recorded, watch: Watch) -> Document | None:
    text, output = event_line(recorded, watch), _output(recorded)
    if not text and not output:
        return None
    return {
        "seq": recorded.seq,
        "at": rfc3339(recorded.at),
        "job_id": recorded.job_id,
        "event": recorded.event.name,
        "text": text,
        "output": output,
    }


def _output(recorded: Recorded) -> list[str]:
    result = getattr(recorded.event, "result", {})  # however it ended
    return [str(message) for message in result.get("messages", ())]
