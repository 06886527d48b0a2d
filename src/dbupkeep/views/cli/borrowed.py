"""Options that people bring along from a server's own tools, and what is used here instead."""

from __future__ import annotations

from collections.abc import Mapping

_URL = "it stands in the URL: postgresql://ROLE@HOST:PORT/DATABASE, or postgresql:///?service=NAME"
_NO_PROMPT = "a password is never asked for: keep it in ~/.pgpass, in a file that PGPASSFILE names, or in PGPASSWORD"
_FULL = "--operations optimize rewrites online where it can; VACUUM FULL wants --consent exclusive_lock"
_ECHO = "`dbupkeep plan` shows what would be done; each statement stands with its job's id in pg_stat_activity, and in the server's log where that has statements"
_SYSTEM = "indexes of system catalogs cannot be rebuilt without keeping everybody out, and are left alone: `reindexdb --system` in a quiet hour"
_PLAN = "`dbupkeep plan` shows what `run` would do, and changes nothing"

INSTEAD: Mapping[str, str] = {
    "--all": "-a takes all databases of a server",
    "-d": _URL,
    "--dbname": _URL,
    "--host": _URL,
    "-p": _URL,
    "--port": _URL,
    "-U": _URL,
    "--username": _URL,
    "--maintenance-db": "with -a, the database of the URL is asked for the others; `postgres` where it names none",
    "-w": _NO_PROMPT,
    "-W": _NO_PROMPT,
    "--no-password": _NO_PROMPT,
    "--password": _NO_PROMPT,
    "-z": "--operations vacuum,analyze",
    "--analyze": "--operations vacuum,analyze",
    "-Z": "--operations analyze",
    "--analyze-only": "--operations analyze",
    "-f": _FULL,
    "--full": _FULL,
    "-e": _ECHO,
    "--echo": _ECHO,
    "--dry-run": _PLAN,
    "--concurrently": "--operations reindex always rebuilds CONCURRENTLY, but for what that cannot do, which wants a consent",
    "-s": _SYSTEM,
    "--system": _SYSTEM,
    "-S": "-n chooses schemas",
    "--tablespace": "indexes stay where they are: ALTER INDEX ... SET TABLESPACE moves one",
}
"""By the option of vacuumdb or reindexdb that is not one of ours: what is written instead."""
