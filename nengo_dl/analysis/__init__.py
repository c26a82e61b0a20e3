"""What networks did, looked at afterwards: NumPy only."""
