"""Database maintenance as jobs: planned, tracked, explained and recovered one operation at a time."""

__version__ = "0.1.0"
