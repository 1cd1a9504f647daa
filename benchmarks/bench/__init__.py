"""Parts of the benchmarks: the machine, timing, what is measured, and the report."""
