"""Managers: one file for each action."""
