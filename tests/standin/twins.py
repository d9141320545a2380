"""A plugin of pytest: where CuPy is the stand-in, the CPU's kernels do the work of their CUDA twins.

The CUDA kernels themselves are tested in Numba's simulator, and on a GPU.
"""

import cupy
import numpy as np

from hebbcore.engine.kernels import cpu, cuda
from hebbcore.engine.kernels.programs import PROGRAMS


def _held(arguments):
    for each in arguments:
        if isinstance(each, np.ndarray):
            raise TypeError("a kernel for the device got an array of the host")
    return [each.held if isinstance(each, cupy.ndarray) else each for each in arguments]


def _twin(name):
    function = getattr(cpu, name)

    def called(*arguments):
        return function(*_held(arguments))

    return called


def _gather(flat, offsets, out, places, across, image, down, right):
    n = np.arange(len(out))
    start = n // places * image + n % places // across * down + n % places % across * right
    out[...] = flat[start[:, None] + offsets]


def _bfloat16(bits, out):
    bits = np.where((bits & 0x7FFFFFFF) > 0x7F800000, np.uint32(0x7FC00000), bits)
    out[...] = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16


def _launch(kernel, blocks, threads, *arguments):
    {cuda.gather_kernel: _gather, cuda.bfloat16_kernel: _bfloat16}[kernel](*_held(arguments))


for _name in PROGRAMS:
    setattr(cuda, _name, _twin(_name))
cuda.cells, cuda.moment_cells, cuda.launch = cpu.cells, cpu.moment_cells, _launch
