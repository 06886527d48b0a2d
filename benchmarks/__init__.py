"""Side-by-side benchmarks: each product's own tool doing the same work, and what dbupkeep adds to it."""
