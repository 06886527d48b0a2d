"""Reports: what a run did, and what all runs of a period did; the same values as text, JSON and HTML."""
