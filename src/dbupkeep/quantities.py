"""Numbers as people read them, for reasons and errors."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_MINUTE = 60


def size(count: float) -> str:
    """Bytes with a unit: `1.5 MiB`."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < _STEP:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= _STEP
    return f"{value:.1f} {_UNITS[-1]}"


def share(fraction: float) -> str:
    """A fraction in percent: `25 %`."""
    return f"{100 * fraction:.0f} %"


def duration(seconds: float) -> str:
    """Seconds with a unit: `12 ms`, `3.4 s`, `5 min`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _MINUTE else f"{seconds / _MINUTE:.0f} min"


def listed(names: list[str], limit: int = 3) -> str:
    """The first few names, quoted so that strange ones stay on their line."""
    shown = ", ".join(repr(name) if not name.isprintable() or " " in name else name for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
