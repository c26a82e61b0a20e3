"""Everything that can be measured, one file each; see `~nengo_dl.benchmarks.registry`."""
