"""The compiler: from a list of operators to the plan of one time step (NumPy only)."""
