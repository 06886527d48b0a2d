"""Pictures: pure functions from plain data to SVG text; each is drawn beside a table of the same data."""
