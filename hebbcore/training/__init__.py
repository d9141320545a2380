"""Training: one layer, a network, and what a run needs to go on after an interruption."""
