"""What each version of the server can do. Pure: versions that cannot be run here are decided on all the same."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_PER_MAJOR = 10000
_BROKEN_FROM, _BROKEN_UNTIL = 140000, 140004


class Version(Struct, frozen=True, order=True):
    """A server's version as it counts itself: 180004 is 18.4."""

    number: int

    def __str__(self) -> str:  # type: ignore[explicit-override] # of 3.12, and the backport is slow to import
        """As people write it."""
        return f"{self.major}.{self.number % _PER_MAJOR}"

    @property
    def major(self) -> int:
        """The release that its features depend on."""
        return self.number // _PER_MAJOR

    def has(self, major: int) -> bool:
        """Whether it is of that release or later."""
        return self.major >= major

    @property
    def broken_concurrently(self) -> bool:
        """14.0 to 14.3: indexes built CONCURRENTLY can miss rows (fixed in 14.4)."""
        return _BROKEN_FROM <= self.number < _BROKEN_UNTIL

    @property
    def session_settings(self) -> dict[str, str]:
        """What every session of ours sets for itself, whatever its role or database has been given."""
        settings = {
            "search_path": "pg_catalog",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "lock_timeout": "5s",
            "default_transaction_read_only": "off",
            "datestyle": "ISO",
            "standard_conforming_strings": "on",
        }
        if self.has(14):
            # A backend whose client was killed ends within a second, not with its statement.
            settings |= {"client_connection_check_interval": "1s", "idle_session_timeout": "0"}
        if self.has(15):
            # Of very many tables each counter is asked for once: what the server would keep of them costs more than that.
            settings["stats_fetch_consistency"] = "none"
        if self.has(17):
            settings["transaction_timeout"] = "0"
        return settings

    def lacks(self, options: Mapping[str, int]) -> list[str]:
        """Those options that came with a later release, with that release."""
        return [f"{name} (from PostgreSQL {major} on)" for name, major in options.items() if not self.has(major)]


OLDEST = Version(130000)
NEWEST_KNOWN = 19

VACUUM_OPTIONS: Mapping[str, int] = {
    "process_toast": 14,
    "process_main": 16,
    "skip_database_stats": 16,
    "buffer_usage_limit": 16,
}
"""The release in which options of VACUUM came, of those that not every supported one has."""
