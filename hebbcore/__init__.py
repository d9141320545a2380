"""Hebbian learning on raw arrays."""
