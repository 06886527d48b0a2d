"""HTML out of templates; everything that is put into one is escaped unless it is marked as safe."""

from __future__ import annotations

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

ENVIRONMENT = Environment(
    loader=PackageLoader("dbupkeep.views.page", "html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip


def render(template: str, **values: object) -> HTMLResponse:
    """A page made of a template in `html/`."""
    return HTMLResponse(ENVIRONMENT.get_template(template).render(values))
