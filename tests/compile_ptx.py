"""Compile every CUDA kernel to PTX and assemble it, without a GPU or a driver; print what ptxas reports as JSON.

Run in a process of its own, without Numba's simulator: `python tests/compile_ptx.py PTXAS`.
"""

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numba import boolean, cuda, float32, float64, int64, uint8, uint16, uint32
from numba.np.numpy_support import as_dtype
from numba.types import Array

from hebbcore.engine.kernels import cuda as kernels
from hebbcore.engine.kernels import launch
from hebbcore.engine.kernels.rows import kinds

ARCHITECTURES = ((8, 0), (9, 0))
FLOATS = {"float32": float32, "float64": float64}


def signature(name, number):
    """Return the argument types of a row program's launch: C-contiguous arrays and scalars of the rows' dtype."""
    vector, matrix, edges = number[::1], number[:, ::1], int64[::1]
    types = {
        "matrix": matrix, "sums": matrix, "per row": vector, "per column": vector, "shares": vector, "edges": edges,
        "spans": int64[:, ::1], "places": int64[:, ::1], "chosen": edges,
        "masks": uint8[:, ::1],
        "images": number[:, :, :, ::1], "number": number, "whole": int64, "flag": boolean,
    }  # fmt: skip
    return tuple(types[kind] for kind in kinds(name).values())


def kernels_and_types():
    """Yield (name, dtype, kernel, argument types) of every kernel; the types are None where none are known here."""
    for dtype, number in FLOATS.items():
        for name, kernel in kernels.compiled(np.dtype(dtype)).items():
            yield name, dtype, kernel, signature(name, number)
    others = {
        "gather_kernel": [(d, (n[::1], int64[::1], n[:, ::1], *5 * [int64])) for d, n in FLOATS.items()],
        "bfloat16_kernel": [("uint32", (uint32[::1], uint16[::1]))],
    }
    for name, value in vars(kernels).items():
        if hasattr(value, "py_func") and not value.targetoptions.get("device"):
            for dtype, types in others.get(name, [("unknown", None)]):
                yield name, dtype, value, types


def parameters(ptx):
    """Return the types of the kernel's parameters, in order: u64, f32, …."""
    entry = re.search(r"\.entry[^(]*\(([^)]*)\)", ptx)
    return re.findall(r"\.param \.(\w+)", entry[1])


def arguments(argument_types):
    """Return the struct that a launch makes for arguments of these types."""
    return launch.layout(
        [
            (as_dtype(t.dtype).char, t.ndim, t.layout == "C") if isinstance(t, Array) else as_dtype(t).type
            for t in argument_types
        ]
    ).format


def assemble(ptxas, ptx, architecture):
    """Return the report of `ptxas -v`: numbers by name."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        command = [ptxas, "-v", f"-arch={architecture}", str(source), "-o", str(Path(folder, "kernel.cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode:
        return {"error": text}
    found = {
        "registers": r"Used (\d+) registers",
        "spill_stores": r"(\d+) bytes spill stores",
        "spill_loads": r"(\d+) bytes spill loads",
        "stack": r"(\d+) bytes stack frame",
        "shared": r"(\d+) bytes smem",
    }
    # of several functions in one file (a kernel and what it calls without inlining) the largest number counts
    return {name: max(map(int, re.findall(pattern, text)), default=0) for name, pattern in found.items()}


def main(ptxas):
    """Print {"name dtype architecture": report}."""
    reports = {}
    with ThreadPoolExecutor() as pool:
        for cc in ARCHITECTURES:
            # device functions ask for the current device's capability, and there is none here
            cuda.dispatcher.get_current_device = lambda cc=cc: SimpleNamespace(compute_capability=cc)
            kernels.compiled.cache_clear()
            architecture = f"sm_{cc[0]}{cc[1]}"
            for name, dtype, kernel, types in kernels_and_types():
                key = f"{name} {dtype} {architecture}"
                if types is None:
                    reports[key] = {"error": f"tests/compile_ptx.py knows no argument types of {name}; add them"}
                    continue
                try:
                    ptx, _ = cuda.compile_ptx(kernel.py_func, types, cc=cc)
                except Exception as error:
                    reports[key] = {"error": str(error)}
                    continue
                report = pool.submit(assemble, ptxas, ptx, architecture)
                f64 = sorted(set(re.findall(r"^.*\.f64.*$", ptx, re.MULTILINE)))[:5]
                reports[key] = (report, {"f64": f64, "parameters": parameters(ptx), "arguments": arguments(types)})
    finished = {k: r if isinstance(r, dict) else r[0].result() | r[1] for k, r in reports.items()}
    print(json.dumps(finished))


if __name__ == "__main__":
    main(sys.argv[1])
