"""Whether version, rights and settings of a server are such that maintenance works, and is safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dbupkeep.engine import Finding
from dbupkeep.engines.postgresql import surroundings, words
from dbupkeep.engines.postgresql.extensions import AMCHECK, PGSTATINDEX, READY
from dbupkeep.engines.postgresql.versions import NEWEST_KNOWN, Version
from dbupkeep.logs import printable

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_LONG = 300.0
_LAG_BYTES, _LAG_SECONDS = 64 * 1024 * 1024, 10.0

_GRANTS = {
    "sees_sessions": "GRANT pg_monitor",
    "sees_statistics": "GRANT SELECT ON pg_statistic",
    "reaches_toast": "GRANT USAGE ON SCHEMA pg_toast",
}

EXTENSIONS = {
    "amcheck": "CHECK wants it",
    "pgstattuple": "index bloat is measured exactly with it, and estimated without",
    "pg_repack": "OPTIMIZE rewrites a table online with it",
}


def examine(handle: Handle) -> list[Finding]:
    """Check everything that can be checked by looking."""
    return [
        version_finding(handle.identity.version),
        *_role(handle),
        *_rights(handle),
        *_state(handle),
        *settings_findings(handle.identity.version, handle.row("settings")),
        *_extensions(handle),
        *_holders(handle),
        *_replication(handle),
        *_collations(handle),
        *_lost_files(handle),
    ]


def version_finding(version: Version) -> Finding:
    """What is to be said of a version. Pure."""
    message = f"PostgreSQL {version}"
    if version.broken_concurrently:
        return Finding(
            subject="version",
            ok=False,
            message=f"{message}: CREATE INDEX and REINDEX CONCURRENTLY can miss rows",
            hint="upgrade to 14.4 or later; until then those are refused",
        )
    if version.major > NEWEST_KNOWN:
        return Finding(
            subject="version", ok=True, message=f"{message} is newer than this program; it is treated as {NEWEST_KNOWN}"
        )
    return Finding(subject="version", ok=True, message=message)


def settings_findings(version: Version, row: Mapping[str, Any]) -> Iterator[Finding]:
    """What is to be said of the server's settings. Pure."""
    counts = bool(row["track_counts"])
    yield Finding(
        subject="statistics",
        ok=counts,
        message="rows are counted" if counts else "track_counts is off: what is due cannot be seen",
        hint="" if counts else "track_counts = on",
    )
    if not row["autovacuum"]:
        yield Finding(
            subject="autovacuum",
            ok=False,
            message="autovacuum is off: between runs nobody cleans up",
            hint="autovacuum = on; dbupkeep goes along with it",
        )
    check = row["client_check"]
    if version.has(14) and check in (None, "0"):
        message = "this platform cannot notice a dead client" if check is None else "set by each session of ours"
        yield Finding(subject="dead clients", ok=True, message=message)
    if not version.has(14):
        yield Finding(
            subject="dead clients",
            ok=True,
            message="before PostgreSQL 14 a session goes on when its client was killed; the next attempt finds it",
        )


def _role(handle: Handle) -> Iterator[Finding]:
    if handle.identity.superuser:
        yield Finding(
            subject="role",
            ok=True,
            message=f"{printable(handle.identity.role)} is a superuser, which maintenance does not need",
            hint="from PostgreSQL 17 on: a role with pg_maintain and pg_monitor"
            if handle.identity.version.has(17)
            else "the owner of the tables, with pg_monitor",
        )
    else:
        yield Finding(subject="role", ok=True, message=printable(handle.identity.role))


def _rights(handle: Handle) -> Iterator[Finding]:
    found = handle.row("rights")
    tables, permitted = int(found["tables"]), int(found["permitted"])
    role = printable(handle.identity.role)
    grant = (
        f"GRANT pg_maintain TO {role}, or GRANT MAINTAIN ON those tables"
        if handle.identity.version.has(17)
        else f"make {role} a member of their owner; before PostgreSQL 17 nothing less will do"
    ) + "; and USAGE on their schemas"
    yield Finding(
        subject="rights on tables",
        ok=permitted == tables,
        message=f"{role} may maintain {permitted:,} of {tables:,} tables",
        hint="" if permitted == tables else grant,
    )
    for name, subject, lack in (
        ("sees_sessions", "sight of sessions", "who blocks or holds back dead rows is only partly seen"),
        ("sees_statistics", "sight of statistics", "missing statistics are only told by counters"),
        ("reaches_toast", "TOAST tables", "their indexes cannot be rebuilt"),
    ):
        good = bool(found[name])
        hint = f"{_GRANTS[name]} TO {role}"
        yield Finding(subject=subject, ok=True, message="in full" if good else lack, hint="" if good else hint)


def _state(handle: Handle) -> Iterator[Finding]:
    if handle.identity.standby:
        yield Finding(
            subject="standby", ok=False, message="the server is a standby: it takes no changes", hint="its primary does"
        )


def _extensions(handle: Handle) -> Iterator[Finding]:
    there = {row["name"]: row for row in handle.rows("extensions", {"names": list(EXTENSIONS)})}
    for name, use in EXTENSIONS.items():
        row = there.get(name)
        needed = next((each for each in (AMCHECK, PGSTATINDEX) if each.name == name), None)
        lack = needed.state(handle) if needed and row and row["installed"] else READY
        if row and lack != READY:
            yield Finding(subject=name, ok=False, message=f"{row['installed']} is installed, and of no use", hint=lack)
        elif row and row["installed"]:
            yield Finding(subject=name, ok=True, message=f"{row['installed']} is installed; {use}")
        elif row:
            yield Finding(
                subject=name, ok=True, message=f"not installed; {use}", hint=f"a superuser can CREATE EXTENSION {name}"
            )
        else:
            yield Finding(subject=name, ok=True, message=f"not on this server; {use}")


def _holders(handle: Handle) -> Iterator[Finding]:
    for row in surroundings.blockers(handle):
        if surroundings.is_held(row, _LONG):
            yield Finding(
                subject="dead rows",
                ok=row["kind"] == "standby",
                message=f"kept by {surroundings.holder(row)}",
                hint="end it when nobody needs it: VACUUM cannot remove what is newer than it",
            )


def _replication(handle: Handle) -> Iterator[Finding]:
    if handle.identity.standby:
        return
    row = handle.row("replication")
    lag, seconds = row["lag_bytes"] or 0, row["lag_seconds"] or 0.0
    if row["standbys"]:
        good = lag <= _LAG_BYTES and seconds <= _LAG_SECONDS
        yield Finding(
            subject="replication",
            ok=good,
            message=f"{row['standbys']} standbys, {words.size(lag)} behind at most",
            hint="" if good else "let them catch up first: maintenance writes much WAL",
        )


def _collations(handle: Handle) -> Iterator[Finding]:
    for row in handle.rows("collations"):
        yield Finding(
            subject="collation",
            ok=False,
            message=f"{printable(row['name'])} was version {row['recorded']} and is {row['actual']} now: indexes may be wrong",
            hint="REINDEX what depends on it, then ALTER ... REFRESH COLLATION VERSION",
        )


def _lost_files(handle: Handle) -> Iterator[Finding]:
    """What a crash in the middle of a rewrite leaves in the folder of the database: no statement sees or removes it."""
    if not handle.row("may_list_files")["may"]:
        return
    found = handle.row("lost_files")
    if found["files"]:
        count = "1 file" if found["files"] == 1 else f"{found['files']:,} files"
        yield Finding(
            subject="lost files",
            ok=False,
            message=f"{count} with {words.size(found['bytes'])} in {found['folder']} of no table or index: {', '.join(found['named'])}",
            hint="a crash left them: ask pg_filenode_relation for each, then remove them while the server is down",
        )
