"""Jobs as text: the list of runs, and one run as a tree with what each operation achieved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from dbupkeep.jobs import OFTEN, Job, JobStatus, JobType, Outcome, Phase
from dbupkeep.results import gain_of
from dbupkeep.views import words
from dbupkeep.views.cli.job_words import MARKS, ChildrenOf, aside, operation_name, short, state, text_lines
from dbupkeep.views.cli.run_text import databases_lines, databases_said
from dbupkeep.views.lengths import took
from dbupkeep.views.terminal import Cell, Table, Terminal, wrap

MANY = 100
"""Databases of a run up to which a list of runs looks at each of them."""

SHOWN = 40
"""Operations without trouble that are shown one by one."""


def jobs_table(jobs: Sequence[Job], children_of: ChildrenOf, now: datetime) -> Table:
    """Runs, one a line."""
    rows = []
    for job in jobs:
        mark, style = MARKS[job.status]
        big = job.type == JobType.MAINTENANCE_RUN and job.stats.total > MANY
        gain = 0 if big else _gain(job, children_of)
        rows.append(
            [
                Cell(mark, style),
                Cell(short(job), "dim"),
                Cell(state(job), style),
                Cell(words.name(job.name)),
                Cell(words.listed([_counts(job) if big else counts(job, children_of), _again(job)]), "dim"),
                Cell(words.size(gain) if gain > 0 else ""),
                Cell(took(job)),
                Cell(words.ago(job.started_at or job.created_at, now), "dim"),
            ]
        )
    return Table(
        head=("", "ID", "STATUS", "NAME", "JOBS", "GIVEN BACK", "TOOK", "STARTED"), rows=rows, right=frozenset({5, 6}),
        flexible=(3, 4), optional=(4, 7, 6, 5), names=frozenset({3}),
    )  # fmt: skip


def report(
    root: Job, children_of: ChildrenOf, terminal: Terminal, *, ids: bool = False, everything: bool = False
) -> Iterator[str]:
    """A job with all below it, and a verdict of one line at the end; of a run over databases a line for each."""
    if root.phase is Phase.EXECUTION:
        yield from _single(root, terminal)
        return
    children_of = cache(children_of)
    if root.type == JobType.MAINTENANCE_RUN and not everything:
        body = list(databases_lines(children_of(root.id), children_of, terminal))
    else:
        body = list(_below(root, children_of, terminal, ids=ids, everything=everything))
    yield from _head(root, terminal)
    yield from ("", *body, "") if body else ("",)
    yield from _verdict(root, children_of, terminal)


def _head(root: Job, terminal: Terminal) -> Iterator[str]:
    for line in wrap(words.listed([words.name(root.name), state(root)]), terminal.width):
        yield terminal.paint(line, "bold")
    aside = [f"id {root.id}", words.moment(root.started_at or root.created_at), took(root)]
    for line in wrap(words.listed(aside), terminal.width):
        yield terminal.paint(line, "dim")


def _below(
    parent: Job, children_of: ChildrenOf, terminal: Terminal, *, ids: bool, everything: bool, depth: int = 0
) -> Iterator[str]:
    children = children_of(parent.id)
    found = [job for job in children if _is_quiet(job)]
    operations = [job for job in children if job.phase is Phase.EXECUTION and not _is_quiet(job)]
    if operations:
        yield from _operations(operations, terminal, ids=ids, everything=everything, depth=depth)
    for job in children:
        if job.phase is Phase.ORCHESTRATION:
            yield from _parent_lines(job, children_of, terminal, depth=depth)
            yield from _below(job, children_of, terminal, ids=ids, everything=everything, depth=depth + 1)
    for job in found:
        result = job.result or {}
        if int((result.get("values") or {}).get("found", 1)) > 1:
            yield from text_lines(f"{job.name}: {result.get('reason', '')}", terminal, 2, "dim")
        for problem in result.get("messages", []):
            yield from text_lines(str(problem), terminal, 2, "dim", "– ")


def _is_quiet(job: Job) -> bool:
    """A discovery that went well is told by what it found."""
    return job.type == JobType.DATABASE_DISCOVERY and job.status is JobStatus.COMPLETED


def _parent_lines(job: Job, children_of: ChildrenOf, terminal: Terminal, *, depth: int) -> Iterator[str]:
    mark, style = MARKS[job.status]
    gain = _gain(job, children_of)
    back = f"{words.size(gain)} given back" if gain > 0 else ""
    said = words.listed([state(job) if job.outcome != Outcome.DONE else "", back, took(job, children_of(job.id))])
    row = [Cell(mark, style), Cell(words.name(job.name), "bold"), Cell(said)]
    yield from Table(rows=[row], flexible=(2, 1), indent=2 * (depth + 1)).lines(terminal)


def _operations(jobs: Sequence[Job], terminal: Terminal, *, ids: bool, everything: bool, depth: int) -> Iterator[str]:
    indent = 2 * (depth + 1)
    shown = jobs if everything or len(jobs) <= SHOWN else _worth_showing(jobs)
    rows = [_operation_row(job) for job in shown]
    if ids:
        rows = [[*row, Cell(job.id, "dim")] for row, job in zip(rows, shown, strict=True)]
    lines = Table(rows=rows, right=frozenset({3, 4}), flexible=(1,), indent=indent).lines(terminal)
    for job, line in zip(shown, lines, strict=True):
        yield line
        yield from aside(job, terminal, indent + 2)
    if len(shown) < len(jobs):
        hidden = words.counted(len(jobs) - len(shown), "more operation")
        yield terminal.paint(f"{' ' * indent}… {hidden} (dbupkeep show --all lists them)", "dim")


def _worth_showing(jobs: Sequence[Job]) -> Sequence[Job]:
    """The first ones that went well, and all that did not or are at work, in their order."""
    quiet = [job for job in jobs if job.status in (JobStatus.COMPLETED, JobStatus.SKIPPED, JobStatus.PENDING)]
    hidden = {job.id for job in quiet[SHOWN:]}
    return [job for job in jobs if job.id not in hidden]


def _operation_row(job: Job) -> list[Cell]:
    mark, style = MARKS[job.status]
    result = job.result or {}
    before, after = (result.get("before") or {}).get("bytes"), (result.get("after") or {}).get("bytes")
    sizes = words.gain(before, after) if job.status is JobStatus.COMPLETED else ""
    gain = gain_of(result)
    part = f"−{words.share(gain / before)}" if before and gain > 0 else ""
    effective = "" if result.get("effective") != "no" else "no effect"
    name = operation_name(job)
    said = words.listed([_progress(job), effective, "" if job.status is JobStatus.COMPLETED else job.status.value])
    return [Cell(mark, style), Cell(name, style if job.status is JobStatus.SKIPPED else ""), Cell(sizes), Cell(part, "green"),
            Cell(took(job)), Cell(said, style if not effective else "yellow")]  # fmt: skip


def _progress(job: Job) -> str:
    if job.status is not JobStatus.RUNNING:
        return ""
    fraction = (job.progress or {}).get("fraction")
    return words.share(fraction) if fraction is not None else ""


def _single(job: Job, terminal: Terminal) -> Iterator[str]:
    """One operation with all that is known of it."""
    mark, style = MARKS[job.status]
    yield f"{terminal.paint(mark, style)} {terminal.paint(words.name(job.name), 'bold')} · {state(job)}"
    rows = [
        ("id", job.id), ("part of", job.parent_id), ("target", job.target), ("attempt", str(job.attempt) if job.attempt else ""),
        ("started", words.moment(job.started_at) if job.started_at else ""), ("took", took(job)),
        *_facts(job.result), ("error", str((job.error or {}).get("message", ""))), ("kind", str((job.error or {}).get("kind", ""))),
        ("where", str((job.error or {}).get("where", ""))), ("hint", str((job.error or {}).get("hint", ""))), ("reason", job.reason),
    ]  # fmt: skip
    for label, text in rows:
        if text:
            first, *rest = wrap(words.name(text), None if terminal.width is None else terminal.width - 12)
            yield f"  {terminal.paint(f'{label:<9}', 'dim')} {first}"
            yield from (" " * 12 + line for line in rest)


def _facts(result: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    result = result or {}
    before, after = result.get("before") or {}, result.get("after") or {}
    sizes = words.gain(before.get("bytes"), after.get("bytes"))
    stall, blocked = result.get("stall_seconds"), result.get("blocking_seconds")
    return [
        ("size", sizes),
        ("effective", str(result.get("effective", ""))),
        ("found", str(result.get("reason", ""))),
        ("stall", f"writers were kept out for {words.duration(stall)} at most" if stall else ""),
        ("others", f"had to wait for it for {words.duration(blocked)}" if blocked else ""),
        *(("note", str(notice.get("message", ""))) for notice in result.get("notices", [])),
        *(("message", str(message)) for message in result.get("messages", [])),
    ]


def _verdict(root: Job, children_of: ChildrenOf, terminal: Terminal) -> Iterator[str]:
    mark, style = MARKS[root.status]
    for line in wrap(f"{mark} {verdict(root, children_of)}", terminal.width):
        yield terminal.paint(line, style if style != "dim" else "", "bold")


def verdict(root: Job, children_of: ChildrenOf) -> str:
    """The run in one line: `3.3 GiB given back in 38 s · 40 done, 1 skipped`."""
    gain, time = _gain(root, children_of), took(root, children_of(root.id))
    idle = root.outcome in (Outcome.DONE, Outcome.NOTHING_TO_DO) and not _worked(root, children_of)
    if gain > 0:
        first = f"{words.size(gain)} given back" + (f" in {time}" if time else "")
    elif root.left_out:
        first = root.reason
    elif idle:
        first = "nothing to do"
    else:
        first = state(root) + (f" in {time}" if time and root.status.ended else "")
    said = _BAD.get(root.outcome, "") if gain > 0 else ""
    ineffective = f"{root.stats.ineffective} without effect" if root.stats.ineffective else ""
    waited = _blocking(root, children_of)
    held_up = f"others waited {words.duration(waited)} for it" if waited else ""
    return words.listed([first, said, counts(root, children_of), ineffective, held_up, _stuck(root, children_of)])


def _blocking(job: Job, children_of: ChildrenOf) -> float:
    """Seconds for which others had to wait for all operations below a job."""
    if job.phase is Phase.EXECUTION:
        return float((job.result or {}).get("blocking_seconds") or 0.0)
    return sum(_blocking(child, children_of) for child in children_of(job.id))


def _stuck(root: Job, children_of: ChildrenOf) -> str:
    """What is put off run after run, in words: nobody looks at a deferral that is there every night."""
    rows = [int((job.result or {}).get("in_a_row", 1)) for job in _deferred(root, children_of)]
    stuck = [row for row in rows if row >= OFTEN]
    return f"{len(stuck)} put off {max(stuck)} runs in a row" if stuck else ""


def _deferred(job: Job, children_of: ChildrenOf) -> Iterator[Job]:
    """All deferred operations below a job; parents without any are not looked into."""
    if job.phase is Phase.EXECUTION:
        yield from (job,) if job.status is JobStatus.DEFERRED else ()
    elif job.stats.deferred or job.type == JobType.MAINTENANCE_RUN:
        for child in children_of(job.id):
            yield from _deferred(child, children_of)


_BAD: Mapping[str, str] = {
    Outcome.FAILED: "failed", Outcome.PARTIAL: "partly failed", Outcome.CANCELLED: "cancelled",
    Outcome.STOPPED: "stopped early", Outcome.DEFERRED: "partly deferred",
}  # fmt: skip


def counts(job: Job, children_of: ChildrenOf) -> str:
    """The children of a parent, counted: its operations, or the databases of a run."""
    return databases_said(children_of(job.id)) if job.type == JobType.MAINTENANCE_RUN else _counts(job)


def _again(job: Job) -> str:
    return f"{job.stats.often:,} put off three runs in a row or more" if job.stats.often else ""


def _worked(root: Job, children_of: ChildrenOf) -> bool:
    """Whether an operation was done; finding databases is no operation."""
    done = [job for job in children_of(root.id) if job.status is JobStatus.COMPLETED]
    return any(job.type != JobType.DATABASE_DISCOVERY and job.outcome != Outcome.NOTHING_TO_DO for job in done)


def _gain(job: Job, children_of: ChildrenOf) -> int:
    """Bytes given back by all operations below a parent."""
    if job.phase is Phase.EXECUTION:
        return gain_of(job.result) if job.status is JobStatus.COMPLETED else 0
    return sum(_gain(child, children_of) for child in children_of(job.id))


def _counts(job: Job) -> str:
    stats = job.stats
    said = (
        (stats.completed, "done"), (stats.failed, "failed"), (stats.running, "running"), (stats.pending, "waiting"),
        (stats.deferred, "deferred"), (stats.cancelled, "cancelled"), (stats.skipped, "skipped"),
    )  # fmt: skip
    return ", ".join(f"{count:,} {word}" for count, word in said if count)
