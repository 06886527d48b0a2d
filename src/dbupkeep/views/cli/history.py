"""The commands `history` and `prune`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import unquote

import click

from dbupkeep.codec import to_json
from dbupkeep.config import RETENTION, Config
from dbupkeep.estimates import Measurement
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.requests import DurationType, key_of
from dbupkeep.views.terminal import Cell, Table


@click.command()
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), metavar="N", default=30, show_default=True, help="How many.")
@common
def history(console: Console, target: str | None, *, limit: int) -> int:
    """What past operations took and gave, newest first, against what was predicted."""
    with console.app() as app:
        config = console.config() if target else Config()
        key = key_of(target, config) if target else ""
        samples = app.reader.measurements(target=key, limit=limit)
    if console.as_json:
        console.document({"measurements": [{**to_json(each), "gain": each.gain} for each in samples]})
        return Exit.DONE
    for line in _table(samples, with_target=not target).lines(console.out):
        console.out.line(line)
    if not samples:
        console.say("Nothing was measured yet.")
    return Exit.DONE


def _table(samples: Sequence[Measurement], *, with_target: bool) -> Table:
    rows = [_row(each, with_target=with_target) for each in samples]
    head = ("WHEN", "DATABASE", "OPERATION", "TOOK", "PREDICTED", "SIZE", "GAVE BACK", "PREDICTED", "EFFECT")
    return Table(
        head=head,
        rows=rows,
        right=frozenset({3, 4, 6, 7}),
        flexible=(1, 2),
        optional=(8, 4, 7, 6),
        names=frozenset({1}),
    )


def _row(sample: Measurement, *, with_target: bool) -> list[Cell]:
    place = unquote(sample.target.rpartition("/")[2] or sample.target, errors="surrogateescape") if with_target else ""
    predicted_gain = sample.predicted_gain
    effect = {"yes": ("yes", "green"), "no": ("no", "yellow")}.get(sample.effective, ("", ""))
    return [
        Cell(words.moment(sample.at), "dim"),
        Cell(words.name(place)),
        Cell(f"{sample.operation.value} {words.name(sample.object)}".rstrip()),
        Cell(words.duration(sample.seconds)),
        Cell(words.duration(sample.predicted_seconds) if sample.predicted_seconds is not None else "", "dim"),
        Cell(words.gain(sample.bytes_before, sample.bytes_after)),
        Cell(words.size(sample.gain) if sample.gain > 0 else ""),
        Cell(words.size(predicted_gain) if predicted_gain is not None else "", "dim"),
        Cell(*effect),
    ]


@click.command()
@click.option(
    "--older-than",
    type=DurationType(),
    default=RETENTION,
    metavar="TIME",
    help="Runs that ended before that; default 90d.",
)
@common
def prune(console: Console, *, older_than: timedelta) -> int:
    """Forget runs that ended long ago, with all their jobs and events. What was measured stays."""
    with console.app() as app:
        removed = app.prune(older_than)
    if console.as_json:
        console.document({"removed": removed})
    else:
        console.out.line(f"{words.counted(removed, 'job')} forgotten.")
    return Exit.DONE
