"""Reports as text: a run with what was not done and why, and the digest of a period."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbupkeep.views import words
from dbupkeep.views.cli.job_words import MARKS, text_lines
from dbupkeep.views.reports.digest import Digest
from dbupkeep.views.reports.entries import Entry, Reason
from dbupkeep.views.reports.run import RunReport
from dbupkeep.views.terminal import Cell, Table, Terminal, wrap

SHOWN = 40
"""Operations that are listed one by one in each part; all of them are in the JSON and the HTML."""

NAMED = 3
"""Names that are told with a reason."""


def run_lines(report: RunReport, headline: str, terminal: Terminal) -> Iterator[str]:
    """A run: its verdict, what was done, what was not and why."""
    root = report.root
    yield terminal.paint(words.name(root.name), "bold")
    yield terminal.paint(words.listed([words.moment(root.started_at), root.id]), "dim")
    yield from ("", *wrap(headline, terminal.width))
    yield from _often(report.not_done, terminal)
    yield from _not_done("Not done, and why", report.not_done, terminal)
    yield from _section("Not maintainable", report.problems, terminal)
    yield from _done(report, terminal)
    idle = [f"{words.counted(report.idle, 'database')} needed nothing"] if report.idle else []
    yield from _section("Not needed", [*idle, *map(_reason, report.not_needed)], terminal)


def digest_lines(digest: Digest, headline: str, terminal: Terminal) -> Iterator[str]:
    """A period: what it gave back, and what is still not done and why."""
    yield terminal.paint(f"Maintenance since {words.moment(digest.since)}", "bold")
    yield from ("", *wrap(headline, terminal.width))
    yield from _often(digest.deferred, terminal)
    yield from _not_done("Failed, and not done since", digest.failed, terminal)
    yield from _not_done("Put off, and not done since", digest.deferred, terminal)
    missed = [f"{name}, due {words.moment(each.due)}: {each.reason}" for name, each in digest.missed]
    yield from _section("Not started", missed, terminal)
    if digest.databases:
        yield from _title("Given back", terminal)
        rows = [
            [Cell(words.name(each.name)), Cell(words.size(max(each.given_back, 0))),
             Cell(words.counted(each.operations, "operation")), Cell(words.duration(each.seconds), "dim")]
            for each in digest.databases[:SHOWN]
        ]  # fmt: skip
        yield from Table(rows=rows, right=frozenset({1, 2, 3}), flexible=(0,), names=frozenset({0}), indent=2).lines(
            terminal
        )
        yield from _more(len(digest.databases), "database", terminal)
    ineffective = [f"{entry.database} {entry.operation}: {entry.why}" for entry in digest.ineffective]
    yield from _section("Done to no effect", ineffective, terminal)
    yield from _section("Not done, by reason", [_reason(each) for each in digest.not_done], terminal)


def digest_headline(digest: Digest) -> str:
    """A period in one line: `3.3 GiB given back by 14 runs · 12 done, 2 deferred`."""
    outcomes = ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in digest.outcomes.most_common())
    if not digest.runs:
        return "nothing ran"
    back = words.size(max(digest.given_back, 0))
    return words.listed([f"{back} given back by {words.counted(len(digest.runs), 'run')}", outcomes])


def _often(entries: Sequence[Entry], terminal: Terminal) -> Iterator[str]:
    stuck = [entry for entry in entries if entry.often]
    if stuck:
        most = max(entry.in_a_row for entry in stuck)
        said = f"{words.counted(len(stuck), 'operation')} put off {most} runs in a row: somebody must look"
        yield terminal.paint(said, "red", "bold")


def _not_done(title: str, entries: Sequence[Entry], terminal: Terminal) -> Iterator[str]:
    if not entries:
        return
    yield from _title(title, terminal)
    for entry in entries[:SHOWN]:
        mark, style = MARKS[entry.job.status]
        row = f", {entry.in_a_row} runs in a row" if entry.in_a_row > 1 else ""
        what = f"{words.name(entry.database)} {words.name(entry.operation)}"
        yield f"  {terminal.paint(mark, style)} {what}: {entry.job.status.value}{row}"
        yield from text_lines(entry.why, terminal, 4, "dim")
        yield from text_lines(entry.hint, terminal, 4, "dim", "hint: ")
    yield from _more(len(entries), "operation", terminal)


def _done(report: RunReport, terminal: Terminal) -> Iterator[str]:
    if not report.done:
        return
    yield from _title("Done", terminal)
    rows = [
        [Cell(words.name(entry.database)), Cell(words.name(entry.operation)), Cell(words.gain(*entry.sizes)),
         Cell(words.size(entry.gain) if entry.gain > 0 else "", "green"), Cell(words.duration(entry.seconds), "dim"),
         Cell("no effect" if entry.ineffective else "", "yellow")]
        for entry in report.done[:SHOWN]
    ]  # fmt: skip
    table = Table(rows=rows, right=frozenset({3, 4}), flexible=(0, 1), optional=(2,), names=frozenset({0, 1}), indent=2)
    yield from table.lines(terminal)
    yield from _more(len(report.done), "operation", terminal)


def _section(title: str, said: Sequence[str], terminal: Terminal) -> Iterator[str]:
    if said:
        yield from _title(title, terminal)
        for text in said[:SHOWN]:
            yield from wrap(words.name(text), terminal.width, indent=2)
        yield from _more(len(said), "line", terminal)


def _title(text: str, terminal: Terminal) -> Iterator[str]:
    yield ""
    yield terminal.paint(text, "bold")


def _more(count: int, noun: str, terminal: Terminal) -> Iterator[str]:
    if count > SHOWN:
        yield terminal.paint(f"  … {words.counted(count - SHOWN, f'more {noun}')}: see --json or --html", "dim")


def _reason(reason: Reason) -> str:
    names = ", ".join((*reason.names[:NAMED], *(["…"] if reason.count > NAMED else [])))
    return f"{reason.count:,} × {reason.text} ({names})"
