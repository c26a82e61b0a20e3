"""Online learning rules, one file each."""
