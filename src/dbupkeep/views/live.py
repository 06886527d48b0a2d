"""Live progress on a terminal: the run, what is at work, and how far each is. rich is imported only here."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console as Screen
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dbupkeep.clock import Clock
from dbupkeep.jobs import Job, JobType
from dbupkeep.plans import Source
from dbupkeep.progress import Progress
from dbupkeep.views import words
from dbupkeep.views.terminal import Terminal
from dbupkeep.views.watching import Look, Watch

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES = 12
"""Running operations drawn at a time."""

BAR = 24


class LiveView:
    """Draws each look over the last one, and leaves a line for everything that ended."""

    def __init__(self, terminal: Terminal, watch: Watch, clock: Clock) -> None:
        """Begin to draw on a terminal."""
        self._watch = watch
        self._clock = clock
        self._screen = Screen(
            file=terminal.stream, force_terminal=True, no_color=not terminal.color, highlight=False, markup=False,
            emoji=False, legacy_windows=False,
        )  # fmt: skip
        self._live = Live(
            console=self._screen, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        self.message = ""

    def show(self, look: Look) -> None:
        """Draw."""
        self._live.update(self._picture(look), refresh=True)

    def say(self, text: str) -> None:
        """Keep a message under the picture."""
        self.message = text

    def close(self) -> None:
        """Take the picture away."""
        self._live.stop()

    def stream(self) -> TextIO:
        """Where other lines, such as logs, may be written without tearing the picture."""
        return cast("TextIO", _Above(self._screen))

    def _picture(self, look: Look) -> RenderableType:
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(5):
            grid.add_column(no_wrap=True, overflow="ellipsis")
        if look.root.type not in (JobType.DATABASE_MAINTENANCE_OPERATION, JobType.DATABASE_DISCOVERY):
            grid.add_row(*self._root_row(look))
        for job in look.running[:LINES]:
            grid.add_row(*self._row(job))
        if len(look.running) > LINES:
            grid.add_row(Text(f"… {len(look.running) - LINES} more at work", style="dim"))
        if self.message:
            outer = Table.grid()
            outer.add_row(grid)
            outer.add_row(Text(self.message, style="yellow"))
            return outer
        return grid

    def _root_row(self, look: Look) -> list[RenderableType]:
        progress, stats = look.progress, look.root.stats
        of = "jobs" if look.root.type == JobType.DATABASE_MAINTENANCE_PARENT else "databases"
        due = stats.total - stats.skipped
        done = f"{due - stats.unended}/{due} {of}"
        back = f"{words.size(look.gained)} back" if look.gained > 0 else ""
        failed = f"{stats.failed} failed" if stats.failed else ""
        name = Text(words.name(look.root.name, width=36), style="bold")
        return [
            name,
            Text(""),
            self._bar(progress),
            _percent(progress),
            Text(words.listed([done, back, failed, self._since(look.root)])),
        ]

    def _row(self, job: Job) -> list[RenderableType]:
        operation = str(job.config.get("operation") or "discovery")
        object = str(job.config.get("object") or "")
        progress = _progress_of(job)
        aside = words.listed([words.name(progress.stage), words.name(object, width=30), self._since(job)])
        place = Text("  " + words.name(self._watch.place(job), width=34))
        return [place, Text(operation, style="cyan"), self._bar(progress), _percent(progress), Text(aside, style="dim")]

    def _bar(self, progress: Progress) -> RenderableType:
        """A bar of what is known; without a fraction there is none, only the time that went by."""
        if progress.fraction is None:
            return Text("·" * BAR, style="dim")
        return ProgressBar(
            total=1.0, completed=progress.fraction, width=BAR, complete_style="cyan", style="bright_black"
        )

    def _since(self, job: Job) -> str:
        if job.started_at is None:
            return ""
        seconds = round((self._clock.now() - job.started_at).total_seconds())
        return words.duration(seconds) if seconds > 0 else ""


def _percent(progress: Progress) -> Text:
    if progress.fraction is None:
        return Text("")
    about = "≈" if progress.source is Source.ESTIMATED else ""
    return Text(f"{about}{words.share(progress.fraction)}", justify="right")


def _progress_of(job: Job) -> Progress:
    from dbupkeep.documents import progress_of

    return progress_of(job)


class _Above:
    """A stream whose lines go above the picture."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> int:
        """Write a line above the picture."""
        if text.strip():
            self._screen.print(Text(text.rstrip("\n")))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
