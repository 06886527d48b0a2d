"""The HTTP side of `serve`: a site on a server of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbupkeep.config import Config

if TYPE_CHECKING:
    from dbupkeep.app import App


@contextmanager
def serving_http(
    app: App, config: Callable[[], Config], *, host: str, port: int, say: Callable[[str], None]
) -> Iterator[str]:
    """Serve API and page for as long; gives their url. Raises `UsageError` when the place is taken."""
    from dbupkeep.views.site import guarded, make_site
    from dbupkeep.views.web.desk import Desk
    from dbupkeep.views.web.server import Server, listen
    from dbupkeep.views.web.tokens import first_gate

    place = listen(host, port)
    desk = Desk(app=app, config=config)
    site = make_site(desk, first_gate(app, say))
    server = Server(guarded(site, clock=app.clock), place)
    say(f"API and page:  {server.url}")
    try:
        yield server.url
    finally:
        desk.close()
        server.close()
