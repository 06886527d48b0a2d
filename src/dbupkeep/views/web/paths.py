"""The paths of the site that need no token, and what a path is to the routes."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

LOG_IN = "/login"

PUBLIC = frozenset({"/healthz", LOG_IN, "/favicon.ico"})
"""Paths that need no token; all below `/static/` needs none either."""


def path_of(scope: MutableMapping[str, Any]) -> str:
    """The path within the site, as the routes know it: without what a proxy puts before it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def is_public(path: str) -> bool:
    """Whether a path is for everybody."""
    return path in PUBLIC or path.startswith("/static/")


def is_for_people(path: str, accept: str) -> bool:
    """Whether who asks is to read a page, by the `Accept` header; all below `/api/` is for programs."""
    return not path.startswith("/api/") and "text/html" in accept
