"""The benchmarks: `python -m bench`, described in docs/bench.md."""
