"""The HTTP API: JSON routes on the same verbs and documents as the command line."""
