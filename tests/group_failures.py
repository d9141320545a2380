"""Trainings that fail in one process of a group, and whose errors all catch; tests/test_group_faults.py runs it.

Sums that had begun are answered later. Nothing that lies there by then may be written into.
"""

import gc
import sys
import warnings

import numpy as np
import pytest
from mpi4py import MPI

import hebbcore

WORLD = MPI.COMM_WORLD
IMAGES = np.random.default_rng(0).random((48, 8, 8, 3))


class Failing:
    """Batches, one of which fails in one process."""

    def __init__(self, fails_at):
        self._fails_at = fails_at

    def __iter__(self):
        for step in range(8):
            if step == self._fails_at:
                raise ArithmeticError("as it was told to")
            yield IMAGES[6 * step : 6 * step + 6]


def new_network(*units):
    layers = [hebbcore.Conv(count, 3, "hpca", learning_rate=1e-3) for count in units]
    return hebbcore.Network(layers, (8, 8, 3), seed=0, device="cpu")


def main(trials):
    expected = hebbcore.fit(new_network(64), IMAGES, batch_size=24)["conv1"].weights
    for trial in range(trials):
        generator = np.random.default_rng(trial)
        rank, step = generator.integers([WORLD.size, 7])
        network = new_network(64, 96, 80)
        with pytest.raises((RuntimeError, ArithmeticError), match="as it was told to"):
            hebbcore.fit(network, Failing(step if rank == WORLD.rank else -1), group=hebbcore.Group(WORLD.Dup()))
        del network
        gc.collect()
        zeros = [np.zeros(size) for size in generator.integers(10, 60_000, 60)]
        WORLD.Barrier()
        after = hebbcore.fit(new_network(64), IMAGES, batch_size=24, group=hebbcore.Group(WORLD.Dup()))
        assert not any(array.any() for array in zeros), f"trial {trial}: a sum came to lie in the memory of others"
        np.testing.assert_allclose(after["conv1"].weights, expected, atol=1e-6)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(int(sys.argv[1]))
