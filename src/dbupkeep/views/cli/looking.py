"""The commands `jobs` and `show`."""

from __future__ import annotations

import click

from dbupkeep.documents import job_document, run_document
from dbupkeep.jobs import JobStatus, Phase
from dbupkeep.ledger import JobQuery
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.finding import find
from dbupkeep.views.cli.job_text import jobs_table, report
from dbupkeep.views.counting import of_databases


@click.command()
@click.option("--all", "everything", is_flag=True, help="Every job, not the runs only.")
@click.option(
    "--status",
    multiple=True,
    type=click.Choice([each.value for each in JobStatus]),
    help="Only of this status; repeatable.",
)
@click.option("--target", default="", metavar="NAME|PATH|URL", help="Only of this database.")
@click.option("--limit", type=click.IntRange(1, 10_000), metavar="N", default=20, show_default=True, help="How many.")
@click.option("--cursor", default="", metavar="ID", help="Go on where the last list ended.")
@common
def jobs(
    console: Console, *, everything: bool, status: tuple[str, ...], target: str, limit: int, cursor: str
) -> int:  # fmt: skip
    """List runs, newest first."""
    query = JobQuery(roots=not everything, statuses=tuple(JobStatus(each) for each in status), target=target)
    with console.app() as app:
        page = app.reader.jobs(query, cursor=cursor, limit=limit)
        if console.as_json:
            console.document({"jobs": [job_document(job) for job in page.jobs], "cursor": page.cursor or None})
            return Exit.DONE
        table = jobs_table([of_databases(app.reader, job) for job in page.jobs], app.reader.children, app.clock.now())
        for line in table.lines(console.out):
            console.out.line(line)
    if not page.jobs:
        console.say(
            "No jobs yet. Start with: dbupkeep plan path/to/app.db"
            if query == JobQuery(roots=True)
            else "No such jobs."
        )
    if page.cursor:
        console.say(f"More: dbupkeep jobs --cursor {page.cursor}", "dim")
    return Exit.DONE


@click.command()
@click.argument("job_id", metavar="ID", default="last")
@click.option("--ids", is_flag=True, help="Print the id of each operation.")
@click.option("--all", "everything", is_flag=True, help="Of a run over databases, every operation of each.")
@common
def show(console: Console, job_id: str, *, ids: bool, everything: bool) -> int:
    """Show a job with all below it: before and after, reasons, errors, attempts.

    ID may be a beginning of it, `RUN/2` for the second job of a run, or `last`.
    """
    with console.app() as app:
        job = find(app.reader, job_id)
        if console.as_json:
            single = job.phase is Phase.EXECUTION
            console.document(job_document(job) if single else run_document(job, app.reader.children))
            return Exit.DONE
        for line in report(job, app.reader.children, console.out, ids=ids, everything=everything or ids):
            console.out.line(line)
    return Exit.DONE
