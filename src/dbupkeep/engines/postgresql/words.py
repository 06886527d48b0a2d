"""Numbers as people read them, for reasons and errors."""

from dbupkeep.quantities import duration, listed, share, size

__all__ = ["duration", "listed", "share", "size"]
