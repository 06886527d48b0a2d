"""A run over several databases as text: one line for each database, details only where something went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from dbupkeep.jobs import Job, JobStatus, JobType, Outcome, Phase
from dbupkeep.results import gain_of
from dbupkeep.views import words
from dbupkeep.views.cli.job_words import MARKS, ChildrenOf, aside, operation_name, state
from dbupkeep.views.lengths import took
from dbupkeep.views.terminal import Cell, Table, Terminal, wrap

SHOWN = 20
"""Databases without trouble that are shown one by one."""

_TROUBLE = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEFERRED)


class Databases(Struct, frozen=True, kw_only=True):
    """The jobs directly below a run: its databases, and the discoveries that found them."""

    parents: tuple[Job, ...]
    discoveries: tuple[Job, ...]
    others: tuple[Job, ...]

    @property
    def idle(self) -> int:
        """Databases that were looked at and need nothing."""
        return sum(int(_values(job).get("idle") or 0) for job in self.discoveries)

    @property
    def problems(self) -> list[str]:
        """Files that are no databases, or none that can be worked on."""
        return [str(message) for job in self.discoveries for message in (job.result or {}).get("messages", [])]


def below(children: Sequence[Job]) -> Databases:
    """Sort the jobs below a run."""
    parents = tuple(job for job in children if job.phase is Phase.ORCHESTRATION)
    discoveries = tuple(job for job in children if job.type == JobType.DATABASE_DISCOVERY)
    others = tuple(job for job in children if job not in parents and job not in discoveries)
    return Databases(parents=parents, discoveries=discoveries, others=others)


def databases_lines(children: Sequence[Job], children_of: ChildrenOf, terminal: Terminal) -> Iterator[str]:
    """One line for each database, the first ones of those that went well, and all that did not."""
    found = below(children)
    trouble = [job for job in found.parents if job.status in _TROUBLE]
    shown = [job for job in found.parents if job not in trouble][:SHOWN] + trouble
    if shown:
        lines = Table(rows=[_row(job, children_of(job.id)) for job in shown], right=frozenset({3, 4}), flexible=(1, 5), names=frozenset({1}), indent=2).lines(terminal)  # fmt: skip
        for job, line in zip(shown, lines, strict=True):
            yield line
            if job in trouble:
                yield from _trouble(children_of(job.id), terminal)
    hidden = len(found.parents) - len(shown)
    if hidden:
        yield terminal.paint(f"  … {hidden:,} more databases (dbupkeep show --all lists them)", "dim")
    for job in (*(job for job in found.discoveries if job.status in _TROUBLE or job.left_out), *found.others):
        yield f"  {terminal.paint(*MARKS[job.status])} {words.name(job.name)}  {state(job)}"
        yield from aside(job, terminal, 4)
    for problem in found.problems:
        for line in wrap(f"– {words.name(problem)}", terminal.width, indent=2):
            yield terminal.paint(line, "dim")


def databases_said(children: Sequence[Job]) -> str:
    """The databases of a run, counted: `11 maintained, 1 failed, 388 needed nothing`."""
    found = below(children)
    counts: dict[str, int] = {}
    for job in found.parents:
        word = ("" if job.left_out else _WORDS.get(job.outcome, "")) or state(job)
        counts[word] = counts.get(word, 0) + 1
    counts["needed nothing"] = counts.get("needed nothing", 0) + found.idle
    looking = sum(1 for job in found.discoveries if not job.status.ended)
    failed = sum(1 for job in found.discoveries if job.status is JobStatus.FAILED)
    problems = sum(int(_values(job).get("problems") or 0) for job in found.discoveries)
    said = [f"{count:,} {word}" for word, count in counts.items() if count]
    said += ["still looking"] if looking else []
    said += ["discovery failed"] if failed else []
    said += [f"{problems:,} not maintainable"] if problems else []
    if not said and found.discoveries:
        return "no database was found"
    return ", ".join(said) or "no database was found"


_WORDS: Mapping[str, str] = {
    Outcome.DONE: "maintained", Outcome.NOTHING_TO_DO: "needed nothing", Outcome.PARTIAL: "partly maintained",
}  # fmt: skip


def _values(job: Job) -> Mapping[str, Any]:
    values: Mapping[str, Any] = (job.result or {}).get("values") or {}
    return values


def _row(parent: Job, operations: Sequence[Job]) -> list[Cell]:
    mark, style = MARKS[parent.status]
    measured = [job.result for job in operations if job.status is JobStatus.COMPLETED and job.result]
    sizes = [(each.get(end) or {}).get("bytes") for each, end in ((measured[0], "before"), (measured[-1], "after"))] if measured else []  # fmt: skip
    gain = sum(gain_of(each) for each in measured)
    part = f"−{words.share(gain / sizes[0])}" if sizes and sizes[0] and gain > 0 else ""
    done = ", ".join(operation_name(job) for job in operations if job.status is JobStatus.COMPLETED)
    return [Cell(mark, style), Cell(words.name(parent.name)), Cell(words.gain(*sizes) if sizes else ""), Cell(part, "green"),
            Cell(took(parent, operations)), Cell(done if parent.outcome == Outcome.DONE else state(parent), "dim" if parent.outcome == Outcome.DONE else style)]  # fmt: skip


def _trouble(operations: Sequence[Job], terminal: Terminal) -> Iterator[str]:
    """The operations that went wrong; the same words for all of them are said once."""
    bad = [job for job in operations if job.status in _TROUBLE]
    if len(bad) > 1 and len({str(job.error or job.reason) for job in bad}) == 1:
        yield from aside(bad[0], terminal, 5)
        return
    for job in bad:
        yield f"     {terminal.paint(*MARKS[job.status])} {operation_name(job)} {job.status.value}"
        yield from aside(job, terminal, 7)
