"""The tokens that a service starts with: the first one, kept beside the ledger, or the one that the environment gives."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from dbupkeep.access import Access, Role, Token, digest
from dbupkeep.app import App, is_on_server, state_folder
from dbupkeep.clock import Clock
from dbupkeep.errors import UsageError
from dbupkeep.views.web.gate import Gate, Given

VARIABLE = "DBUPKEEP_TOKEN"

FIRST = "first"
"""The name of the token that the first start makes."""

SHORTEST = 16
"""Characters of a token of the environment that may be used from other machines."""


def first_gate(
    app: App, say: Callable[[str], None], environ: Mapping[str, str] | None = None, *, logged: bool = False
) -> Gate:
    """The gate of a service: with the token of the environment, else with the first one, made and told once.

    Where what is said is `logged`, it is only told where it is kept. Raises `UsageError` when others can read that file.
    """
    access = Access(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
    text = (os.environ if environ is None else environ).get(VARIABLE, "")
    if text:
        return Gate(access, app.clock, given=_given(text, app.clock))
    _first(access, place_of(app.location), say, logged=logged)
    return Gate(access, app.clock)


def has_weak_token(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment gives a token that is short enough to be guessed."""
    return 0 < len((os.environ if environ is None else environ).get(VARIABLE, "")) < SHORTEST


def place_of(location: str) -> Path:
    """Where the first token's text is: beside a ledger that is a file; else in the state folder."""
    if is_on_server(location):
        return state_folder() / "token"
    ledger = Path(location.removeprefix("sqlite://")).expanduser().absolute()
    return ledger.with_name(f"{ledger.name}.token")


def _given(text: str, clock: Clock) -> Given:
    """The token of the environment. What the ledger keeps of it, with its sessions, is made slow to guess from."""
    mark = hashlib.scrypt(text.encode(), salt=b"dbupkeep token", n=2**14, r=8, p=1).hex()
    token = Token(name="of the environment", role=Role.ADMIN.word, hash=mark, created_at=clock.now())
    return Given(token=token, digest=digest(text))


def _first(access: Access, path: Path, say: Callable[[str], None], *, logged: bool) -> None:
    """See that there is a first token: its text in the file, its hash in the ledger."""
    text = _kept(path)
    known = access.roll().tokens.get(FIRST)
    if text is None and known is not None:  # the file was taken away, on purpose or before it was made
        if known.used_at is None and known.revoked_at is None:
            say(
                "The first token was never used, and its file is gone. Make one:  dbupkeep token create NAME --role admin"
            )
        return
    if known is not None and text is not None and known.hash == digest(text):
        return
    if known is not None and text is not None:
        raise UsageError(
            f"the token in {path} is not the one that the ledger knows as {FIRST}",
            hint="remove the file; `dbupkeep token create NAME --role admin` makes another token",
        )
    made = access.create(FIRST, Role.ADMIN, by="the first start", text=text or "")
    if text is None:
        _keep(path, made)
        say(f"First token, kept in {path}" if logged else f"First token, told once and kept in {path}:  {made}")


def _kept(path: Path) -> str | None:
    """The text in the file, if there is one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the token in {path} cannot be read", why=(error.strerror or "").lower()) from error
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if os.fstat(descriptor).st_mode & 0o077:
            raise UsageError(
                f"the token in {path} can be read by others", hint=f"make it yours alone:  chmod 600 {path}"
            )
        return file.read(1024).strip() or None


def _keep(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text + "\n")
