"""Neuron types, one file for each family."""
