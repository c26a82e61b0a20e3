"""Synapses, one file for each family."""
