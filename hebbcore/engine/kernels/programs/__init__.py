"""The row programs by theme; importing this declares all of them (rows.PROGRAMS)."""

from hebbcore.engine.kernels.programs import activations, competition, pools, vectors

__all__ = ["activations", "competition", "pools", "vectors"]
