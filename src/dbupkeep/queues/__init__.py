"""The ways of delivery: one file each."""
