"""Runs: their configuration, the user's own modules, comparisons, and sweeps."""
