"""Whose command this is."""

from __future__ import annotations

import os


def user() -> str:
    """The account that asks; stands in events and in the audit trail."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run as a user whom nobody named
        return f"uid {os.getuid()}"
