"""The page: HTML from the server, live by a small script."""
