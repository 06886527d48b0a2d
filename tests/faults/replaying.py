"""The whole record of a ledger, and all that has happened on it."""

from __future__ import annotations

from dbupkeep.app import App
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery, Wait
from dbupkeep.testing.history import History, pristine


def recorded(app: App) -> tuple[Job, ...]:
    """All jobs, as the record has them."""
    return app.reader.jobs(JobQuery(newest_first=False), limit=100_000).jobs


def replayed(app: App) -> History:
    """All that has happened, checked event by event."""
    history = History()
    waits = app.ledger.reading().text("select * from waits", {})  # type: ignore[attr-defined]
    history.expect(
        (pristine(job) for job in recorded(app)),
        (Wait(job_id=row["job_id"], on_id=row["on_id"], gate=bool(row["gate"])) for row in waits),
    )
    after = 0
    while events := app.reader.events(after):
        for event in events:
            history.add(event)
        after = events[-1].seq
    return history
