"""Numba's CUDA simulator with threads that say when they wait: a kernel takes a small part of the time.

Numba's own loop asks each thread in turn whether it waits for the others, and keeps Python's lock while it asks: nearly
all of the time of a simulated kernel.
"""

import threading

import numpy as np
from numba.cuda.simulator import kernel


class Lane(kernel.BlockThread):
    """A thread of a block."""

    def __init__(self, *given):
        super().__init__(*given)
        self.turn, self.ended = threading.Semaphore(0), False

    def run(self):
        super().run()
        self.ended = True
        self._manager.told.release()

    def syncthreads(self):
        self._manager.told.release()
        self.turn.acquire()
        if self.abort:
            raise RuntimeError("another thread of the block failed")


def run_block(manager, grid_point, *arguments):
    """Run one block to its end, as kernel.BlockManager.run does."""
    manager.told = threading.Semaphore(0)
    lanes = [
        Lane(lambda: manager._f(*arguments), manager, grid_point, point, manager._debug)
        for point in np.ndindex(*manager._block_dim)
    ]
    for lane in lanes:
        lane.start()
    while lanes:
        for _ in lanes:  # until each waits or has ended
            manager.told.acquire()
        failed = [lane.exception for lane in lanes if lane.exception]
        lanes = [lane for lane in reversed(lanes) if not lane.ended]  # CUDA promises no order
        for lane in lanes:
            lane.abort = bool(failed)
            lane.turn.release()
        for error, traceback in failed:
            raise error.with_traceback(traceback)


def wait_without_asking():
    """Let the simulator of this process run its blocks so."""
    kernel.BlockManager.run = run_block
