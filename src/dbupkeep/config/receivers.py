"""Who is told of jobs: values of the configuration, with their secrets still where they are."""

from __future__ import annotations

from msgspec import Struct

from dbupkeep.secret import Secret


class Receiver(Struct, frozen=True, kw_only=True):
    """A `[notify.NAME]`: a signed webhook, or urls of Apprise."""

    name: str
    jobs: tuple[str, ...] = ()  # whose `notifications` name it
    on: tuple[str, ...] = ()
    webhook: Secret | None = None
    secret: Secret | None = None  # of the webhook
    apprise: Secret | None = None
    private: bool = False  # the webhook may be in a private network
    hosts: tuple[str, ...] = ()  # where it may go, as globs; empty: wherever its url says


class Ping(Struct, frozen=True, kw_only=True):
    """The `healthcheck` of a job."""

    url: Secret
    private: bool = False
    hosts: tuple[str, ...] = ()
