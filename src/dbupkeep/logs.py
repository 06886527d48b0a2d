"""Structured logs: constant messages with fields, as text for people or JSON lines for programs.

Every line that is written while a job is worked on carries the job's fields, bound by `bound`. One event is one line:
control characters are escaped. Passwords in anything shaped like a URL are masked, whoever put them there.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ParamSpec, TextIO, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

FIELDS = ("correlation_id", "parent_id", "job_id", "operation", "object", "target", "attempt")
"""What a line within a job carries, in this order."""

_bound: ContextVar[Mapping[str, object]] = ContextVar("dbupkeep_log_fields")


class LogFormat(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Have every line of this thread carry these fields until the block ends; None and "" are left out.

    A new thread starts without fields: see `carry`.
    """
    known = {name: value for name, value in fields.items() if value not in (None, "")}
    token = _bound.set({**_bound.get({}), **known})
    try:
        yield
    finally:
        _bound.reset(token)


def current() -> Mapping[str, object]:
    """The fields of this moment in this thread: which job is being worked on."""
    return _bound.get({})


def carry(function: Callable[P, T]) -> Callable[P, T]:
    """The function with the fields of this moment, for a thread that is about to be started."""
    context = copy_context()

    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(function, *args, **kwargs)

    return carried


def set_up(
    log_format: LogFormat = LogFormat.TEXT, *, level: int = logging.WARNING, stream: TextIO | None = None
) -> None:
    """Write the logs of dbupkeep to `stream` (standard error), from `level` on; a second call replaces the first.

    Only the logger `dbupkeep` is touched, so a program that uses the library keeps its own logging.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if log_format is LogFormat.JSON else TextLines())
    logger = logging.getLogger("dbupkeep")
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, the fields, and `error` with `trace`."""

    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override] # of 3.12, and the backport is slow to import
        """Write the record; times are RFC 3339 in UTC."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _error(record.exc_info[1])
            # Lines of code only: what variables held stays out of the log.
            line["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(_masked(line), default=lambda value: mask(str(value)))


class TextLines(logging.Formatter):
    """`time LEVEL message  field=value …`, with values quoted where they have spaces."""

    def format(self, record: logging.LogRecord) -> str:  # type: ignore[explicit-override] # of 3.12, and the backport is slow to import
        """Write the record."""
        fields = _fields(record)
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = _error(record.exc_info[1])
        words = [_time(record), f"{record.levelname:<7}", printable(mask(record.getMessage()))]
        words += [f"{printable(name)}={_quoted(mask(str(_masked(value))))}" for name, value in fields.items()]
        return " ".join(words)


def printable(text: str) -> str:
    r"""The text with everything that moves a cursor, ends a line or turns writing around shown as an escape (`\n`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


BYTE = 0xF700
"""Added to a byte that is no text, this is the letter as which it is kept, where a text has such bytes: U+F780 to U+F7FF."""


def is_text(text: str) -> bool:
    """Whether no byte is kept in it that is no text."""
    return text.isascii() or not any(map(_is_byte, text))


def _is_byte(char: str) -> bool:
    return BYTE + 0x80 <= ord(char) <= BYTE + 0xFF


def _escaped(char: str) -> str:
    if _is_byte(char):
        return f"\\x{ord(char) - BYTE:02x}"
    return char.encode("unicode_escape").decode("ascii")


_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    context = _bound.get({})
    first = {name: context[name] for name in FIELDS if name in context}
    own = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
    return {**first, **context, **own}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _quoted(text: str) -> str:
    plain = printable(text)
    return json.dumps(plain, ensure_ascii=False) if not plain or set(plain) & set(' ="') else plain


def _masked(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(key)): _masked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return value


MASK = "***"

# A URL begins at the start of a word. The scheme is short and bounded, so that a long word costs no more than its
# length; of the schemes of databases, all slashes may be missing.
_SCHEME = re.compile(
    r"(?<![A-Za-z0-9+.\-])(?:[A-Za-z][A-Za-z0-9+.\-]{0,30}:/+"
    r"|(?:postgres(?:ql)?|mysql|mariadb|redis|amqps?|https?)(?:\+[A-Za-z0-9]{1,20})?(?::/*|//+))",
    re.IGNORECASE,
)
_FILE_SCHEMES = ("sqlite:", "file:")
_COLON = re.compile(":|%3a", re.IGNORECASE)
_AT = re.compile("@|%40")
_PORT = re.compile(r"[0-9]{1,5}(?=$|[/?#,\s'\")\]}>;.:!])")
_SECRET_NAME = r"(?:password|passwd|passphrase|pwd|secret|token|api_?key)"  # noqa: S105 - names, not a secret
_PARAMETER = re.compile(rf"([?&][\w\-]{{0,30}}{_SECRET_NAME}\s*=)([^&\n\"']+)", re.IGNORECASE)
_PAIR = re.compile(
    rf"({_SECRET_NAME}(?:[\"']\s*:|\s*=)\s*)(?!\*\*\*)('(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?|[^\s&;,'\")]+)",
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """The text without the passwords in it: of URLs, also malformed ones, and of `password=…` pairs.

    Where a URL is too malformed to say where its password ends, more is masked rather than less.
    """
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    text = _PAIR.sub(lambda found: found[0] if found[2].strip("'\"") == "" else found[1] + MASK, text)
    starts = list(_SCHEME.finditer(text))
    if not starts:
        return text
    pieces = [text[: starts[0].start()]]
    for found, following in zip(starts, [*(start.start() for start in starts[1:]), len(text)], strict=True):
        rest = text[found.end() : following]
        is_file = found[0].lower().startswith(_FILE_SCHEMES)
        pieces += [found[0], rest if is_file else _without_password(rest)]
    return "".join(pieces)


def carries_password(text: str) -> bool:
    """Whether `mask` would take something out."""
    return mask(text) != text


def _without_password(rest: str) -> str:
    """Mask what follows a scheme: from the first colon to the last @ of the line, wherever else that may lie."""
    line, newline, below = rest.partition("\n")
    colon = _COLON.search(line)
    if colon is None:
        return rest
    ats = [found.start() for found in _AT.finditer(line, colon.end())]
    if ats:
        end = ats[-1]
    elif re.search(r"[/?#\s\[]", line[: colon.start()]) or _PORT.match(line, colon.end()) or colon.end() == len(line):
        return rest
    else:
        # No @ at all: a password whose host was lost, unless it is a port.
        end = colon.end() + len(re.match(r"[^\s/]*", line[colon.end() :])[0])  # type: ignore[index] # matches always
    secret = line[colon.end() : end]
    return f"{line[: colon.end()]}{MASK if secret else ''}{line[end:]}{newline}{below}"
