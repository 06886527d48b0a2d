"""Where a database is: libpq's own URLs, services, `.pgpass` and environment; never a password in the text."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from urllib.parse import quote

from dbupkeep.definitions import Target
from dbupkeep.errors import NotPermitted, UsageError

_PORT = 5432

_HINT = (
    "write postgresql://HOST/DATABASE, or postgresql:///?service=NAME; the password comes from .pgpass or PGPASSWORD"
)

DEFAULTS: Mapping[str, str] = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_encoding": "UTF8",
}
"""For what the URL, the service and the environment do not say: a dead path is noticed within a minute."""

_ENVIRONMENT = {"connect_timeout": "PGCONNECT_TIMEOUT"}


def parameters_of(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a URL. Raises `UsageError`, which never repeats the URL: it may have a password in it."""
    parsed = _parse(url)
    secret = sorted(name for name in ("password", "sslpassword", "oauth_client_secret") if parsed.get(name))
    if secret:
        raise UsageError(
            f"the target's URL has a {secret[0]} in it",
            why="anybody on this machine can read the arguments of a program, and ledgers and logs would keep it",
            hint=_HINT,
        )
    wanted = {
        name: value
        for name, value in DEFAULTS.items()
        if name not in parsed and _ENVIRONMENT.get(name, "") not in environment
    }
    return {**wanted, **parsed}


def target_of(text: str, *, name: str = "", exclude: tuple[str, ...] = ()) -> Target:
    """Make a target of a URL. Raises `UsageError`."""
    parsed = parameters_of(text, {})
    return Target(name=name or parsed.get("dbname") or parsed.get("service") or "postgresql", url=text, exclude=exclude)


def with_database(url: str, database: str) -> str:
    """The same server's URL, with another database."""
    parsed = {key: value for key, value in _parse(url).items() if key != "dbname"}
    query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in sorted(parsed.items()))
    return f"postgresql:///{quote(database, safe='')}" + (f"?{query}" if query else "")


def expected_key(target: Target) -> str:
    """The key that a target will have, as far as its URL and the environment tell; a service's is not known."""
    from psycopg import pq

    found = _parse(target.url)
    for option in pq.Conninfo.get_defaults():
        if option.val is not None:
            found.setdefault(option.keyword.decode(), option.val.decode())
    host = found.get("host") or found.get("hostaddr") or "/var/run/postgresql"
    return key_of(host, found.get("port") or "", found.get("dbname") or found.get("user") or "")


def key_of(host: str, port: str | int, database: str) -> str:
    """What the ledger calls a database: the same for every way of writing its URL.

    Of several hosts all, whichever answers: a database is the same one after its standby took over.
    """
    hosts, ports = host.split(","), str(port).split(",")
    places = zip_longest(hosts, ports, fillvalue=ports[0] if len(ports) == 1 else "")
    named = ",".join(f"{quote(name, safe='.:-')}:{number or _PORT}" for name, number in places)
    return f"postgresql://{named}/{quote(database, safe='')}"


def _parse(url: str) -> dict[str, str]:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(url)
    except (ProgrammingError, UnicodeError, ValueError):
        found = None
    if found is None or not url.lower().startswith(("postgresql://", "postgres://")):
        # Outside of the handler, and with nothing of libpq's text: it repeats what it could not read.
        raise UsageError("the target's URL cannot be read", why="it is no URL that libpq understands", hint=_HINT)
    if "\0" in url:
        raise NotPermitted("the target's URL has a NUL in it", hint=_HINT)
    return {key: str(value) for key, value in found.items() if value is not None}
