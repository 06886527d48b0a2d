"""Reports as one HTML file each, which asks for nothing from anywhere: to read, to print, to attach to a ticket.

All that is put into a template is escaped, and names with control characters are written as for a terminal. Safe as
they are: pictures (`Svg`), which escape for themselves, and their style.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from dbupkeep.views import words
from dbupkeep.views.pictures import timeline
from dbupkeep.views.reports.digest import Digest
from dbupkeep.views.reports.lanes import attempts, lanes
from dbupkeep.views.reports.run import RunReport

EVENTS_SHOWN = 1000
"""Events that a file lists; the first ones."""

ROWS = 2000
"""Rows of a table; a browser takes more, but nobody reads them. All of it is in the JSON."""

PARTS = re.compile(r"[^/\\._-]*[/\\._-]+|[^/\\._-]+")
"""A part of a name, with what stands between it and the next one."""

DRAWN = 12
"""Databases whose gains a digest draws as bars."""


def run_html(report: RunReport, *, headline: str, now: datetime) -> str:
    """The report of one run."""
    made = attempts(report.entries, report.events, now)
    root = report.root
    running = None if root.status.ended else now
    picture = timeline.timeline(lanes(made), title=f"timeline of {root.name}", now=running, closes=root.until)
    values = {
        "report": report, "headline": headline, "attempts": made, "picture": picture, "now": now,
        "events": report.events[:EVENTS_SHOWN], "rows": ROWS,
    }  # fmt: skip
    return _environment().get_template("run.html").render(values)


def digest_html(digest: Digest, *, headline: str) -> str:
    """The digest of a period."""
    most = max([total.given_back for total in digest.databases[:DRAWN]], default=0)
    values = {"digest": digest, "headline": headline, "most": most, "drawn": DRAWN, "rows": ROWS}
    return _environment().get_template("digest.html").render(values)


def parts(name: str) -> Sequence[str]:
    """The parts of a name that may be a path: between them it may go on in another line, rather than within a word."""
    return PARTS.findall(name)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dbupkeep.views.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        name=words.name, parts=parts, size=words.size, duration=words.duration, moment=words.moment, share=words.share,
    )  # fmt: skip
    made.globals.update(
        gain=words.gain, counted=words.counted, listed=words.listed,
        timeline_style=timeline.STYLE,
    )  # fmt: skip
    return made
