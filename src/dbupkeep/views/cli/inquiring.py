"""The commands `doctor` and `why`: what is wrong with the surroundings, and with a database."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dbupkeep import __version__, engines
from dbupkeep.codec import to_json
from dbupkeep.definitions import Target
from dbupkeep.engine import Finding, Purpose
from dbupkeep.errors import UpkeepError
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.requests import single_target
from dbupkeep.views.terminal import wrap

if TYPE_CHECKING:
    from dbupkeep.app import App

REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})
"""File systems whose locks SQLite cannot rely on."""


@click.command()
@click.argument("target", metavar="[TARGET]", required=False)
@common
def doctor(console: Console, target: str | None) -> int:
    """Check versions, the ledger and its folder, the configuration; with TARGET also that database and its folder."""
    findings = [*_program(), _configuration(console)]
    with console.app() as app:
        findings += [*_ledger(app), *_workers(app)]
    if target:
        findings += _database(single_target(target, console.config()))
    return _print(console, findings)


@click.command()
@click.argument("target", metavar="TARGET")
@click.argument("object_name", metavar="[OBJECT]", default="")
@common
def why(console: Console, target: str, object_name: str) -> int:
    """Say what keeps maintenance of TARGET (or of one OBJECT of it) from helping, most important first."""
    place = single_target(target, console.config())
    engine = engines.load(place.engine)
    session = engine.connect(place, purpose=Purpose.SURVEY)
    try:
        findings = engine.why(session, object_name)
    finally:
        session.close()
    if not findings:
        findings = [Finding(subject=place.name, ok=True, message="nothing is in the way of maintenance")]
    _print(console, findings)
    return Exit.DONE


def _print(console: Console, findings: Sequence[Finding]) -> int:
    if console.as_json:
        console.document({"ok": all(each.ok for each in findings), "findings": [to_json(each) for each in findings]})
    else:
        out, label = console.out, max(len(words.name(each.subject)) for each in findings)
        label = min(label, 24)
        for each in findings:
            mark = out.paint("✓", "green") if each.ok else out.paint("✗", "red")
            room = None if out.width is None else out.width - label - 4
            first, *rest = wrap(words.name(each.message), room)
            out.line(f"{mark} {words.name(each.subject, width=label):<{label}}  {first}")
            for line in rest + (wrap(words.name(each.hint), room) if each.hint else []):
                out.line(" " * (label + 4) + out.paint(line, "dim"))
    return Exit.DONE if all(each.ok for each in findings) else Exit.FAILED


def _program() -> Iterator[Finding]:
    python = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    yield Finding(subject="dbupkeep", ok=True, message=f"{__version__} · {python}")
    yield Finding(subject="SQLite", ok=True, message=f"apsw {metadata.version('apsw')} brings its own library")
    yield Finding(subject="engines", ok=True, message=", ".join(engines.known()))


def _configuration(console: Console) -> Finding:
    try:
        config = console.config()
    except UpkeepError as error:
        return Finding(subject="configuration", ok=False, message=error.message, hint=error.hint)
    if not config.file:
        return Finding(subject="configuration", ok=True, message="no file; defaults are in force")
    counts = f"{words.counted(len(config.targets), 'target')}, {words.counted(len(config.jobs), 'job')}"
    return Finding(subject="configuration", ok=True, message=f"{config.file}: {counts}")


def _ledger(app: App) -> Iterator[Finding]:
    health = app.reader.health()
    jobs = ", ".join(f"{count:,} {status}" for status, count in health.jobs.items() if count) or "no jobs yet"
    yield Finding(
        subject="ledger", ok=health.ok, message=words.listed([health.location, words.size(health.bytes), health.message or "sound", jobs]),
        hint="" if health.ok else "restore it from a copy, or choose another with --ledger",
    )  # fmt: skip
    path = Path(health.location)
    if path.exists():
        yield _rights(path, "ledger file", wanted=0o600)
        yield _rights(path.parent, "ledger folder", wanted=0o700)
        yield _file_system(path, "ledger volume")


def _rights(path: Path, subject: str, *, wanted: int) -> Finding:
    """Others may read names and reasons in a ledger, so nobody else should get in."""
    mode = stat.S_IMODE(path.stat().st_mode)
    open_to_others = bool(mode & 0o077)
    return Finding(
        subject=subject, ok=not open_to_others, message=f"mode {mode:04o}" + (", others may look into it" if open_to_others else ", yours alone"),
        hint=f"chmod {wanted:o} {path}" if open_to_others else "",
    )  # fmt: skip


def _file_system(path: Path, subject: str) -> Finding:
    kind = file_system_of(path)
    remote = kind in REMOTE
    return Finding(
        subject=subject, ok=not remote, message=f"{kind or 'unknown'} file system" + (": over a network, where locks cannot be relied on" if remote else ""),
        hint="keep it on a local disk" if remote else "",
    )  # fmt: skip


def file_system_of(path: Path) -> str:
    """The kind of file system a path is on, as the kernel names it; empty where it does not say."""
    table = Path("/proc/self/mounts")
    if not table.exists():
        return ""
    real = os.path.realpath(path)
    best = ("", "")
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _, mount, kind, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _workers(app: App) -> Iterator[Finding]:
    alive = [worker for worker in app.queue.workers() if worker.alive]
    busy = sum(len(worker.busy) for worker in alive)
    yield Finding(
        subject="workers", ok=True, message=f"{words.counted(len(alive), 'process', 'processes')} at work, {words.counted(busy, 'operation')}",
    )  # fmt: skip


def _database(target: Target) -> list[Finding]:
    engine = engines.load(target.engine)
    try:
        session = engine.connect(target, purpose=Purpose.SURVEY)
    except UpkeepError as error:
        return [Finding(subject=target.name, ok=False, message=error.message, hint=error.hint)]
    try:
        findings = list(engine.doctor(session))
        for left in session.leftovers():
            whose = "ours" if left.ours else "not proved ours"
            text = f"{left.name}, {words.size(left.bytes)}, {whose}: {left.explanation}"
            findings.append(Finding(subject="leftover", ok=False, message=text))
    finally:
        session.close()
    return findings
