"""The runtime: a layout becomes a program, in NumPy for single steps or TensorFlow.

Inside, arrays are feature-major, ``(n, batch)``. One time step is a pure function
``step(xp, carry, x, weights) -> (next_carry, y)`` of the carried arrays, the rows that
are given from outside, and the program's arguments.
"""
