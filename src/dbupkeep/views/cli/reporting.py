"""The command `report`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbupkeep.errors import UsageError
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.logs import printable
from dbupkeep.scheduler import is_scheduled, standing
from dbupkeep.schedules import Missed
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.finding import find
from dbupkeep.views.cli.job_text import verdict
from dbupkeep.views.cli.report_text import digest_headline, digest_lines, run_lines
from dbupkeep.views.moments import back
from dbupkeep.views.reports.digest import Digest, of_period
from dbupkeep.views.reports.run import RunReport, of_run

if TYPE_CHECKING:
    from dbupkeep.app import App

PAGE = 1000


@click.command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--since", metavar="TIME", help="Of all runs since then, as a digest: 7d, 06:00, 2026-11-01.")
@click.option("--html", "as_html", is_flag=True, help="One HTML file that needs nothing else, to mail or to print.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@common
def report(console: Console, job_id: str | None, *, since: str | None, as_html: bool, output: Path | None) -> int:
    """Report a run: what was given back, what was done, what was not and why. The last run without an ID.

    dbupkeep report last --html -o report.html
    """
    if job_id and since:
        raise UsageError("a run and a period were both named", hint="give an ID, or --since TIME")
    if as_html and console.as_json:
        raise UsageError("a report is either HTML or JSON", hint="give --html or --json")
    with console.app() as app:
        text = (
            _period(console, app, since, as_html=as_html)
            if since
            else _run(console, app, job_id or "last", as_html=as_html)
        )
    if output is None:
        console.out.line(text)
    else:
        _write(output, text + "\n")
        console.say(f"Written to {printable(str(output))}.")
    return Exit.DONE


def _run(console: Console, app: App, job_id: str, *, as_html: bool) -> str:
    children_of = cache(app.reader.children)
    root = find(app.reader, job_id)
    found = of_run(root, children_of, _events(app.reader, root))
    if console.as_json:
        return _json(found)
    headline = verdict(root, children_of)
    if as_html:
        from dbupkeep.views.reports.html import run_html

        return run_html(found, headline=headline, now=app.clock.now())
    return "\n".join(run_lines(found, headline, console.out))


def _period(console: Console, app: App, since: str, *, as_html: bool) -> str:
    now = app.clock.now()
    began = back(since, now)
    found = of_period(since=began, until=now, jobs=_jobs(app.reader, began), missed=list(_missed(console, app.reader)))
    if console.as_json:
        return _json(found)
    headline = digest_headline(found)
    if as_html:
        from dbupkeep.views.reports.html import digest_html

        return digest_html(found, headline=headline)
    return "\n".join(digest_lines(found, headline, console.out))


def _json(found: RunReport | Digest) -> str:
    import json

    return json.dumps(found.document(), indent=2)


def _events(reader: Reader, root: Job) -> Iterator[Recorded]:
    after = 0
    while events := reader.events(after, correlation_id=root.correlation_id, limit=PAGE):
        yield from events
        after = events[-1].seq


def _jobs(reader: Reader, since: datetime) -> Iterator[Job]:
    """All jobs that were made since then, newest first: ids made later sort later."""
    cursor = ""
    while True:
        page = reader.jobs(JobQuery(), cursor=cursor, limit=PAGE)
        for job in page.jobs:
            if job.created_at < since:
                return
            yield job
        cursor = page.cursor
        if not cursor:
            return


def _missed(console: Console, reader: Reader) -> Iterator[tuple[str, Missed]]:
    """The due times that were left out last, of each job of the configuration."""
    for name, job in console.config().jobs.items():
        known = standing(reader, name) if is_scheduled(job) else None
        if known is not None and known.missed is not None:
            yield name, known.missed


def _write(path: Path, text: str) -> None:
    """Put it there as a whole: nobody ever sees half of a report."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(
            f"the report cannot be written to {printable(str(path))}", why=error.strerror or str(error),
            hint="name a file in a folder that is there and may be written",
        ) from error  # fmt: skip
