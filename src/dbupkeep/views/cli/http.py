"""The HTTP side of `serve`: a site on a server of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbupkeep.config import Config

if TYPE_CHECKING:
    from dbupkeep.app import App


@contextmanager
def serving_http(
    app: App,
    config: Callable[[], Config],
    *,
    host: str | None,
    port: int | None,
    say: Callable[[str], None],
    logged: bool = False,
) -> Iterator[str]:
    """Serve API and page for as long, where the configuration says unless it is said here; gives their url.

    Where what is said is `logged`, no secret is said. Raises `UsageError` when the place is taken, or is one that a service must not listen on.
    """
    from dbupkeep.views.site import guarded, make_site
    from dbupkeep.views.web.desk import Desk
    from dbupkeep.views.web.hosts import Hosts
    from dbupkeep.views.web.reach import address_of, check_reach
    from dbupkeep.views.web.server import Server, listen
    from dbupkeep.views.web.tokens import first_gate, has_weak_token

    settings = config().server
    port = settings.port if port is None else port
    family, address = address_of(host or settings.host, port)
    warning = check_reach(
        address, tls_proxy=settings.tls_proxy, plain_http=settings.plain_http, weak_token=has_weak_token()
    )
    _log_as_we_do()
    place = listen(family, address, port)
    desk = Desk(app=app, config=config)
    site = make_site(desk, first_gate(app, say, logged=logged), https=settings.tls_proxy)
    hosts = Hosts.of(settings.allowed_hosts, bound=address)
    server = Server(guarded(site, clock=app.clock, hosts=hosts), place, root_path=settings.root_path)
    if warning:
        say(warning)
    say(f"API and page:  {server.url}")
    try:
        yield server.url
    finally:
        desk.close()
        server.close()


def _log_as_we_do() -> None:
    """Have the server's complaints written by our handlers: one line each, nothing secret, nothing that moves a cursor."""
    server = logging.getLogger("uvicorn")
    server.handlers = list(logging.getLogger("dbupkeep").handlers)
    server.setLevel(logging.ERROR)  # whoever sends what is no HTTP must not fill the log
    server.propagate = False
