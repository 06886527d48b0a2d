"""Dark or light: as the system says, or as a person chose, which the script keeps in a cookie so that no page flashes."""

from __future__ import annotations

from fastapi import Request

THEMES = ("dark", "light")

THEME = "dbupkeep-theme"
"""The name of the cookie."""


def theme_of(request: Request) -> str:
    """What a person chose; empty: as the system says."""
    theme = request.cookies.get(THEME, "")
    return theme if theme in THEMES else ""
