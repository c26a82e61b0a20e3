"""The native executor: a recorded step, and the loop over steps, as machine code."""
