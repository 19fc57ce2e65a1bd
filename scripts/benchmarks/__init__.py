"""What `scripts/benchmark.py` measures: two ways of doing the same work, its parts, and the report on them."""
