"""HTML out of templates; everything that is put into one is escaped unless it is a picture of our own."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from html import escape

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from dbupkeep.codec import rfc3339
from dbupkeep.views import words
from dbupkeep.views.lengths import took
from dbupkeep.views.marks import MARKS
from dbupkeep.views.page import tables
from dbupkeep.views.page.signs import TONES, state
from dbupkeep.views.page.static import address


def render(template: str, **values: object) -> HTMLResponse:
    """A page made of a template in `html/`."""
    return HTMLResponse(_environment().get_template(template).render(values))


_WORDS = (
    tables.clock, tables.day, tables.days, tables.figure_name, tables.figure_value, tables.jobs_said, tables.point_rows, tables.run_rows,
    tables.square_rows, tables.tally_rows, tables.timeline_rows, tables.until, tables.zone,
)  # fmt: skip


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("dbupkeep.views.page", "html"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(
        name=words.name, places=words.places, size=words.size, duration=words.duration, share=words.share, moment=words.moment,
        rfc3339=_rfc3339, prose=prose, state=state, took=took,
    )  # fmt: skip
    made.globals.update(
        ago=words.ago, gain=words.gain, counted=words.counted, listed=words.listed, limits=words.limits,
        static=address, marks=MARKS, tones=TONES,
        **{made_of.__name__: made_of for made_of in _WORDS},
    )  # fmt: skip
    return made


class Html(str):
    """HTML that is safe as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """What templates put in as it is."""
        return str(self)


def prose(text: str) -> Html:
    """A sentence of ours or of an engine; what stands between backticks is code. Escaped like any other text."""
    parts = [escape(part) for part in words.name(text).split("`")]
    if len(parts) % 2 == 0:
        return Html("`".join(parts))
    return Html("".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)))


def _rfc3339(at: datetime | None) -> str:
    """For programs; empty for None."""
    return rfc3339(at) if at else ""
