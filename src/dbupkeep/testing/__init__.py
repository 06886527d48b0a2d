"""Public conformance suites: what holds for every adapter of a port."""
