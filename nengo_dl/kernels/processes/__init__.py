"""Processes: how their operator is lowered, and which of them are computed ahead."""
