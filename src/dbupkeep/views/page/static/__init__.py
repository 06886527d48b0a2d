"""The style sheet, the script and the icon of the page: three files of our own, under names that change with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response
from msgspec import Struct

from dbupkeep.views.pictures import timeline
from dbupkeep.views.web.problems import Problem

router = APIRouter(include_in_schema=False)

TYPES: Mapping[str, str] = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

FOR_EVER = "public, max-age=31536000, immutable"


class Asset(Struct, frozen=True, kw_only=True):
    """One file as it is served."""

    content: bytes
    type: str


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A file, by the name that `address` gives it."""
    asset = _assets().get(name)
    if asset is None:
        raise Problem(404, "unknown_name", f"there is no file {name}")
    return Response(asset.content, media_type=asset.type, headers={"Cache-Control": FOR_EVER})


@router.get("/favicon.ico")
def icon() -> Response:
    """For browsers that ask for it by this name."""
    return Response((files(__name__) / "icon.svg").read_bytes(), media_type=TYPES["svg"])


def address(name: str) -> str:
    """Where a file is found, within the site: `static/page.3f2a91c0.css`."""
    return f"static/{_names()[name]}"


@cache
def _assets() -> Mapping[str, Asset]:
    return {_names()[name]: Asset(content=_content(name), type=TYPES[name.rpartition(".")[2]]) for name in _FILES}


_FILES = ("page.css", "page.js", "icon.svg")


@cache
def _names() -> Mapping[str, str]:
    return {name: _named(name) for name in _FILES}


def _named(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(_content(name)).hexdigest()[:12]}.{kind}"


def _content(name: str) -> bytes:
    content = (files(__name__) / name).read_bytes()
    return timeline.STYLE.encode() + content if name == "page.css" else content
