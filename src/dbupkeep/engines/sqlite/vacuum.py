"""VACUUM: give back the space of deleted rows, by a new file or in place; or in slices, where others are at work."""

from __future__ import annotations

from msgspec.structs import replace

from dbupkeep.engine import Evidence, Report, Work
from dbupkeep.engines.sqlite import backup, in_place, incremental, rewrite, words
from dbupkeep.engines.sqlite.check import known_damage
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.inquiry import RENUMBER_CONSENT, STALL_CONSENT, Draft, Inquiry, decide, too_long
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.estimates import RECENT, Measurement, median
from dbupkeep.facts import Notice, Value
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import Estimate, PlanItem, Proposal, Source

SUMMARY = (
    "VACUUM, by a new file that takes the place of the old one where it is proved that nobody else has that open, else in"
    " place; or incremental_vacuum in slices where auto_vacuum allows it and a stall would be too long"
)

_INCREMENTAL = 2
"""The auto_vacuum mode in which pages can be given back a few at a time."""

_ABOUT = 0.5
"""It worked when at least this share of what was predicted came back."""


def propose(q: Inquiry) -> list[Proposal]:
    """Decide by free pages. Pure."""
    reason = _need(q)
    if not reason:
        return [q.skip(_idle(q))]
    disappointing = "" if q.policy.force else _disappointing(q)
    if disappointing:
        return [q.skip(disappointing)]
    if _sliceable(q) and (_needs_consent(q) or too_long(q, q.estimate(q.count("live_bytes")).stall_seconds)):
        return [decide(q, _in_slices(q, reason))]
    if _needs_consent(q):
        return [q.skip(_consent_wanted(q), *_renumbering(q))]
    return [decide(q, _whole(q, reason))]


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Do it by the planned method, after a backup copy where one is wanted."""
    if not item.options.get("backup"):
        return _perform(handle, item, report, tag)
    with backup.kept(handle, item, report, tag) as copy:
        work = _perform(handle, item, report, tag)
    return replace(work, values={**work.values, "backup": str(copy)})


def _perform(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    if item.method == rewrite.METHOD:
        return rewrite.run(handle, item, report, tag)
    if item.method == incremental.METHOD:
        return incremental.run(handle, item, report)
    return in_place.run(handle, item, report)


def verify(handle: Handle, item: PlanItem, work: Work) -> Evidence:
    """Compare the bytes on disk, `-wal` included; a wanted backup is kept until the file has passed a check."""
    backup.settle(handle, work)
    after = measure(handle)
    before = Sizes.of(work.before)
    effective, reason = _judge(item, before, after)
    if effective is Effective.NO and after.wal_bytes > before.wal_bytes:
        reason += f"; {in_place.held_back(handle)}"
    if why := work.values.get("why_in_place"):
        reason += f"; in place, since {why}"
    return Evidence(
        effective=effective,
        reason=reason,
        before=before.values(),
        after=after.values(),
        values=dict(work.values),
        work_bytes=before.live_bytes,
    )


def _judge(item: PlanItem, before: Sizes, after: Sizes) -> tuple[Effective, str]:
    gain = before.bytes - after.bytes
    predicted = item.estimate.gain_bytes if item.estimate.gain_bytes is not None else before.free_bytes
    text = (
        f"{words.size(before.bytes)} became {words.size(after.bytes)}, predicted was a gain of {words.size(predicted)}"
    )
    if predicted <= 0 and gain <= 0:  # by force alone
        return Effective.NO, f"nothing was to be gained: {words.size(before.bytes)} became {words.size(after.bytes)}"
    good = gain >= _ABOUT * predicted
    return (Effective.YES if good else Effective.NO), text


def _need(q: Inquiry) -> str:
    """Why it is due, with the numbers; empty when it is not."""
    facts = _free(q)
    if q.policy.force:
        return f"asked for by force: {facts}"
    share, pages, size = q.facts.number("free_share"), q.count("free_pages"), q.count("free_bytes")
    if q.scope.fleet:
        due = share >= q.threshold("fleet_min_share") and pages >= q.threshold("fleet_min_pages")
    else:
        due = share >= q.threshold("min_share") and size >= q.threshold("min_bytes")
    return f"{facts}, which is at least {_thresholds(q)}" if due else ""


def _disappointing(q: Inquiry) -> str:
    """Why the past says that it is not worth while; empty when it does not."""
    cooling = q.history.cooling_off(Operation.VACUUM, q.scope.now, q.policy.cool_off)
    if cooling:
        return (
            f"the last run on {cooling.at:%Y-%m-%d} gave back {words.size(cooling.gain)} of the predicted"
            f" {words.size(cooling.predicted_gain or 0)}; not tried again for {q.policy.cool_off.days} days"
        )
    gain, source = _gain(q)
    least = q.threshold("fleet_min_pages") * q.count("page_size") if q.scope.fleet else q.threshold("min_bytes")
    if source is Source.HISTORY and gain < least:
        return (
            f"{_free(q)}, but earlier runs gave back {words.share(gain / q.count('free_bytes'))} of what was free, so"
            f" about {words.size(gain)} are to be expected, less than {words.size(least)}"
        )
    return ""


def _gain(q: Inquiry) -> tuple[int, Source]:
    """The free pages, less what earlier runs of this file fell short of their prediction."""
    free = q.count("free_bytes")
    runs = [m for m in q.history.own if _is_guide(m)][:RECENT]
    if not runs:
        return free, Source.ESTIMATED
    kept = median([m.gain / (m.predicted_gain or 1) for m in runs])
    return int(free * min(1.0, max(0.0, kept))), Source.HISTORY


def _is_guide(m: Measurement) -> bool:
    """A run that something kept from its effect says nothing of the next one."""
    return m.operation is Operation.VACUUM and bool(m.predicted_gain) and m.effective == Effective.YES


def _idle(q: Inquiry) -> str:
    return f"{_free(q)}; due from {_thresholds(q)} on"


def _free(q: Inquiry) -> str:
    return (
        f"{words.share(q.facts.number('free_share'))} of the file is free ({q.count('free_pages'):,} of"
        f" {q.count('pages'):,} pages, {words.size(q.count('free_bytes'))})"
    )


def _thresholds(q: Inquiry) -> str:
    if q.scope.fleet:
        return f"{words.share(q.threshold('fleet_min_share'))} and {q.threshold('fleet_min_pages'):.0f} pages"
    return f"{words.share(q.threshold('min_share'))} and {words.size(q.threshold('min_bytes'))}"


def _evidence(q: Inquiry) -> dict[str, Value]:
    return q.evidence(
        free_pages=q.count("free_pages"),
        auto_vacuum=q.count("auto_vacuum"),
        rowid_dependents=q.facts.values.get("rowid_dependents"),
    )


def _whole(q: Inquiry, reason: str) -> Draft:
    live = q.count("live_bytes")
    readers = "readers go on" if q.wal else "readers wait too"
    draft = Draft(
        reason=reason,
        method=in_place.METHOD,
        locks=f"the write lock is held from start to end: writers wait, {readers}",
        estimate=_estimate(q, live),
        space=q.space(temp=live, journal=live),
        options=q.options(live_bytes=live),
        evidence=_evidence(q),
        covers=_covers(q),
        notices=_renumbering(q),
    )
    if not (q.switch("new_file") and live >= q.threshold("new_file_min_bytes")):
        return draft
    if why := _why_in_place(q):
        told = f"{draft.locks}; in place, since {why}"
        return replace(draft, locks=told, evidence={**draft.evidence, "why_in_place": why})
    return replace(
        draft,
        method=rewrite.METHOD,
        locks="nobody else has the file open; who comes to open it waits for a moment, and the work goes on in place",
        space=q.space(twin=live),
        options={**draft.options, "renews": rewrite.RENEWS, STALL_CONSENT: STALL_CONSENT in q.policy.consents},
    )


def _why_in_place(q: Inquiry) -> str:
    """What speaks against a new file that takes the place of the old one; empty when nothing does. `run` looks again."""
    if q.others:
        return f"it is open in {q.facts.values.get('openers_named')}"
    return str(q.facts.values.get("not_replaceable", "nobody looked whether a new file can take its place"))


def _in_slices(q: Inquiry, reason: str) -> Draft:
    free = q.count("free_bytes")
    return Draft(
        reason=f"{reason}; in slices, since {_why_slices(q)}",
        method=incremental.METHOD,
        locks="the write lock is taken for a moment at a time, and given up between the slices",
        estimate=_estimate(q, free),
        space=q.space(temp=0, journal=min(free, q.count("live_bytes"))),
        options=q.options(),
        evidence=_evidence(q),
        stalls=False,
    )


def _estimate(q: Inquiry, work_bytes: int) -> Estimate:
    gain, source = _gain(q)
    return replace(q.estimate(work_bytes, gain=gain), gain_source=source)


def _why_slices(q: Inquiry) -> str:
    if _needs_consent(q):
        return "that renumbers no rowids"
    return f"VACUUM would keep writers waiting for longer than {words.duration(q.policy.max_stall.total_seconds())}"


def _sliceable(q: Inquiry) -> bool:
    return q.count("auto_vacuum") == _INCREMENTAL and q.count("free_pages") > 0


def _covers(q: Inquiry) -> dict[Operation, str]:
    """VACUUM packs indexes but copies their content as it is: damage stays, and a REINDEX for it is no waste."""
    if q.policy.force or known_damage(q):
        return {}
    return {Operation.REINDEX: "VACUUM packs every index anew, so a REINDEX would have nothing to gain"}


def _needs_consent(q: Inquiry) -> bool:
    return bool(q.names("rowid_dependents")) and RENUMBER_CONSENT not in q.policy.consents


def _consent_wanted(q: Inquiry) -> str:
    return (
        f"{_free(q)}, but VACUUM may renumber the rowids of {words.listed(q.names('rowid_tables'))}, on which"
        f" {words.listed(q.names('rowid_dependents'))} may depend; consent to {RENUMBER_CONSENT} to run it"
    )


def _renumbering(q: Inquiry) -> tuple[Notice, ...]:
    tables = q.names("rowid_tables")
    if not tables:
        return ()
    dependents = q.names("rowid_dependents")
    return (
        Notice(
            code="rowids_renumbered",
            message=f"VACUUM may give the rows of {words.listed(tables)} new rowids (no INTEGER PRIMARY KEY)",
            hint="this matters only to programs that keep rowids; "
            + (f"{words.listed(dependents)} may" if dependents else "nothing in the schema does"),
            severity="warning" if dependents else "info",
        ),
    )
