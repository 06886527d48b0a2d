"""Secrets that a configuration only refers to: `env:NAME` or `file:PATH`. They are read when they are needed, and kept nowhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

ENVIRONMENT, FILE = "env:", "file:"

MOUNTED = Path("/run/secrets")
"""Where engines of containers put secrets for the one container alone; their modes there are not ours to judge."""

LARGEST = 65_536  # bytes of a file with a secret


class Unreadable(LookupError):
    """What is referred to is not there; the text says where it was looked for, which is no secret."""


class Secret(Struct, frozen=True):
    """A secret, or where it is."""

    said: str  # as it is written in the configuration

    @property
    def is_reference(self) -> bool:
        """Whether it only says where the secret is."""
        return self.said.startswith((ENVIRONMENT, FILE))

    def read(self) -> str:
        """The secret itself, as it is now. Raises `Unreadable`."""
        if self.said.startswith(ENVIRONMENT):
            return _of_environment(self.said.removeprefix(ENVIRONMENT))
        if self.said.startswith(FILE):
            return _of_file(Path(self.said.removeprefix(FILE)).expanduser())
        return self.said

    @property
    def shown(self) -> str:
        """What may be shown: a reference as it is, of a url its host, of anything else nothing."""
        if self.is_reference:
            return self.said
        parts = urlsplit(self.said) if "://" in self.said else None
        return f"{parts.scheme}://{parts.hostname}/***" if parts and parts.hostname else "***"

    def __repr__(self) -> str:  # type: ignore[explicit-override] # of 3.12
        """Without the secret, wherever it ends up."""
        return f"Secret({self.shown!r})"


def is_open_to_others(found: os.stat_result) -> bool:
    """Whether somebody else can read or write a file; a group may read what root gave it, as with libpq's keys."""
    allowed = stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR | (stat.S_IRGRP if found.st_uid == 0 else 0)
    return bool(stat.S_IMODE(found.st_mode) & ~allowed)


def _of_environment(name: str) -> str:
    found = os.environ.get(name, "").strip()
    if not found:
        raise Unreadable(f"the variable {name} is not set, or empty")
    return found


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            if is_open_to_others(os.fstat(file.fileno())) and not path.is_relative_to(MOUNTED):
                raise Unreadable(f"the file {path} can be read by others: chmod 600 {path}")
            found = file.read(LARGEST).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise Unreadable(f"the file {path} cannot be read: {reason.lower()}") from None
    if not found:
        raise Unreadable(f"the file {path} is empty")
    return found
