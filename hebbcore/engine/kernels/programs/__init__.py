"""The row programs by theme, and the table of all of them."""

from hebbcore.engine.kernels.programs import activations, competition, pools, pursuit, teaching, vectors
from hebbcore.engine.kernels.rows import PROGRAMS

__all__ = ["PROGRAMS", "activations", "competition", "pools", "pursuit", "teaching", "vectors"]
