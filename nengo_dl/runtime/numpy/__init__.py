"""The NumPy executor: one time step as generated code of array calls."""
