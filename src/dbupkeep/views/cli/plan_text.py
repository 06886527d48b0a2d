"""A plan as text: each operation with its reason, its cost and where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dbupkeep.definitions import Setting
from dbupkeep.facts import Notice
from dbupkeep.plans import Decision, Plan, PlanItem, RunPlan, Source
from dbupkeep.views import words
from dbupkeep.views.terminal import Cell, Table, Terminal, wrap

SHOWN = 20
"""Databases of a run that are shown one by one."""

_MARKS: Mapping[Decision, tuple[str, str]] = {
    Decision.RUN: ("▸", "cyan bold"),
    Decision.SKIP: ("–", "dim"),
    Decision.DEFER: ("‖", "yellow"),
}
_SAID: Mapping[Decision, str] = {Decision.SKIP: "skipped", Decision.DEFER: "deferred", Decision.RUN: ""}

_SOURCES: Mapping[Source, str] = {
    Source.MEASURED: "measured",
    Source.HISTORY: "from history",
    Source.ESTIMATED: "estimated",
    Source.UNKNOWN: "",
}

_LABEL = 8


def plan_lines(plan: Plan, terminal: Terminal) -> Iterator[str]:
    """The plan of one database."""
    title = [words.name(plan.name), f"{plan.facts.engine} {plan.facts.version}", words.size(plan.facts.bytes)]
    yield from _title(terminal, title)
    yield ""
    for item in plan.items:
        yield from _item_lines(item, terminal)
    yield from _notice_lines(plan.notices, terminal)
    yield from _threshold_lines([plan], terminal)
    yield ""
    yield _sum([plan], terminal)


def run_plan_lines(run: RunPlan, terminal: Terminal, *, everything: bool = False) -> Iterator[str]:
    """The plans of several databases: a line for each operation that is due, and what is skipped as counts."""
    due = [plan for plan in run.plans if plan.due]
    deferred = [plan for plan in run.plans if not plan.due and _has(plan, Decision.DEFER)]
    looked_at = len(run.plans) + run.idle + len(run.problems)
    yield from _title(terminal, [words.name(run.name), words.counted(looked_at, "database")])
    shown = [*due, *deferred]
    kept = shown if everything else shown[:SHOWN]
    if kept:
        yield ""
        yield from _run_table(kept).lines(terminal)
    if len(shown) > len(kept):
        yield terminal.paint(f"  … {len(shown) - len(kept)} more (--all shows them)", "dim")
    idle = looked_at - len(due) - len(deferred) - len(run.problems)
    if idle:
        yield ""
        yield terminal.paint(f"  – {words.counted(idle, 'database')} need nothing" if idle > 1 else "  – 1 database needs nothing", "dim")  # fmt: skip
    yield from _problem_lines(run.problems, terminal)
    yield from _notice_lines([notice for plan in kept for notice in plan.notices], terminal)
    yield from _threshold_lines(run.plans, terminal)
    yield ""
    yield _sum(run.plans, terminal) if looked_at else terminal.paint("No database was found.", "yellow")


def _title(terminal: Terminal, parts: list[str]) -> Iterator[str]:
    for line in wrap(words.listed([f"Plan for {parts[0]}", *parts[1:], "nothing has been changed"]), terminal.width):
        yield terminal.paint(line, "bold")


def _has(plan: Plan, decision: Decision) -> bool:
    return any(item.decision is decision for item in plan.items)


def _item_lines(item: PlanItem, terminal: Terminal) -> Iterator[str]:
    mark, style = _MARKS[item.decision]
    head = f"{item.operation.value} {words.name(item.object)}".rstrip()
    aside = words.listed([_SAID[item.decision] or item.method, *(_cost(item) if item.decision is Decision.RUN else [])])
    width = None if terminal.width is None else terminal.width - 4
    first, *rest = wrap(f"{head:<18} {aside}".rstrip(), width)
    painted = terminal.paint(first[: len(head)], style) + first[len(head) :]
    yield f"  {terminal.paint(mark, style)} {painted}"
    yield from (f"    {line}" for line in rest)
    yield from _labelled("why", item.reason, terminal)
    if item.decision is not Decision.RUN:
        return
    if item.members:
        yield from _labelled("objects", ", ".join(words.name(member) for member in item.members), terminal)
    yield from _labelled("locks", item.locks, terminal)
    for need in item.space:
        free = f"{words.size(need.available)} free" if need.available is not None else "free space unknown"
        text = f"{words.size(need.needed)} for the {need.purpose.removeprefix('the ')} in {words.name(need.folder)} ({free})"
        yield from _labelled("space", f"{text} {'✓' if need.enough else '✗ not enough'}", terminal)
    yield from _notice_lines(item.notices, terminal)


def _cost(item: PlanItem) -> list[str]:
    """Gain and time, each with its source; what nobody knows is said to be unknown."""
    estimate, parts = item.estimate, []
    if estimate.gain_bytes:
        parts.append(f"≈ {words.size(estimate.gain_bytes)} back")
    if estimate.seconds is None:
        return [*parts, "time unknown"]
    return [*parts, f"≈ {words.duration(estimate.seconds)} ({_SOURCES[estimate.seconds_source] or 'guess'})"]


def _labelled(label: str, text: str, terminal: Terminal, style: str = "dim") -> Iterator[str]:
    if not text:
        return
    first, *rest = wrap(words.name(text), None if terminal.width is None else terminal.width - 4 - _LABEL)
    yield f"    {terminal.paint(f'{label:<{_LABEL}}', style)}{first}"
    yield from (" " * (4 + _LABEL) + line for line in rest)


def _notice_lines(notices: Iterable[Notice], terminal: Terminal) -> Iterator[str]:
    for notice in dict.fromkeys(notices):
        style = "dim" if notice.severity == "info" else "yellow"
        yield from _labelled("note", notice.message, terminal, style)
        yield from _labelled("", notice.hint, terminal)


def _problem_lines(problems: Iterable[Notice], terminal: Terminal) -> Iterator[str]:
    for problem in problems:
        first, *rest = wrap(words.name(problem.message), None if terminal.width is None else terminal.width - 4)
        yield f"  {terminal.paint('✗', 'red')} {first}"
        yield from (f"    {line}" for line in rest)
        if problem.hint:
            yield from wrap(words.name(problem.hint), terminal.width, indent=4)


def _run_table(plans: Iterable[Plan]) -> Table:
    rows = []
    for plan in plans:
        for item in plan.items:
            if item.decision is Decision.SKIP:
                continue
            runs, estimate = item.decision is Decision.RUN, item.estimate
            mark, style = _MARKS[item.decision]
            rows.append(
                [
                    Cell(mark, style),
                    Cell(words.name(plan.name)),
                    Cell(f"{item.operation.value} {words.name(item.object)}".rstrip(), style),
                    Cell(words.size(estimate.gain_bytes) if runs else ""),
                    Cell(f"≈ {words.duration(estimate.seconds)}" if runs and estimate.seconds is not None else ""),
                    Cell(words.name(item.reason), "dim"),
                ]
            )
    return Table(
        head=("", "DATABASE", "OPERATION", "GAIN", "TIME", "WHY"), rows=rows, right=frozenset({3, 4}),
        flexible=(5, 1, 2), optional=(5, 4), names=frozenset({1}), indent=2,
    )  # fmt: skip


def _threshold_lines(plans: Iterable[Plan], terminal: Terminal) -> Iterator[str]:
    """The thresholds in force, each operation once."""
    settings: dict[str, Mapping[str, Setting]] = {}
    for plan in plans:
        settings.update(plan.settings)
    texts = [f"{operation}: {', '.join(_threshold(*each) for each in values.items())}" for operation, values in settings.items() if values]  # fmt: skip
    if texts:
        yield ""
    for text in texts:
        for line in wrap(words.name(text), terminal.width, indent=2):
            yield terminal.paint(line, "dim")


def _threshold(name: str, value: Setting) -> str:
    said: str = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name.endswith("share"):
            said = words.share(value)
        elif name.endswith("bytes"):
            said = words.size(value)
        elif name.endswith(("wait", "seconds")):
            said = words.duration(value)
    return f"{name} {said}"


def _sum(plans: Iterable[Plan], terminal: Terminal) -> str:
    plans = list(plans)
    items = [item for plan in plans for item in plan.due]
    if not items:
        blocked = any(_has(plan, Decision.DEFER) for plan in plans)
        text = "Nothing can run now: what is due is deferred." if blocked else "Nothing is due."
        return terminal.paint(text, "yellow" if blocked else "green")
    gains = [item.estimate.gain_bytes for item in items if item.estimate.gain_bytes is not None]
    times = [item.estimate.seconds for item in items if item.estimate.seconds is not None]
    unknown = len(items) - len(times)
    parts = [
        f"{words.counted(len(items), 'operation')} due",
        f"about {words.size(sum(gains))} to gain" if sum(gains) else "",
        f"about {words.duration(sum(times))} of work" if times else "",
        f"{unknown} of unknown length" if unknown else "",
    ]
    return terminal.paint(words.listed(parts), "bold")
