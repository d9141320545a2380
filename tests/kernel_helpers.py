"""A row kernel against its oracle, by what its declaration says; for the CPU, the simulator and a GPU."""

import itertools

import numpy as np
from oracles import kernels as oracles

from hebbcore.engine.kernels.rows import kinds

SHAPES = [(1, 1), (3, 5), (4, 2), (2, 33)]
DTYPES = [np.float32, np.float64]


def _array(kind, rows, columns, cells, generator):
    if kind == "sums":
        return np.zeros((cells, columns))
    if kind == "images":
        return generator.normal(size=(2, 4, 5, columns))
    if kind == "matrix":
        return generator.normal(size=(rows, columns))
    return generator.uniform(0.5, 2, {"per row": rows, "per column": columns}[kind])


def _settings(examples, rows, columns):
    """Yield the arguments that the examples name, every combination."""
    values = [[value(rows, columns)] if callable(value) else value for value in examples.values()]
    for combination in itertools.product(*values):
        yield dict(zip(examples, combination, strict=True))


def assert_is_its_oracle(module, name, shape, dtype, generator, xp=np):
    """Run a kernel of a device's module on random arrays of xp, and compare all arrays with what its oracle says."""
    oracle = getattr(oracles, name, None)
    assert oracle is not None, f"{name} has no oracle: add a function of its name to tests/oracles/kernels.py"
    cells = module.cells(*shape)
    for settings in _settings(getattr(oracle, "examples", {}), *shape):
        arguments = {}
        for parameter, kind in kinds(name).items():
            value = settings.get(parameter)
            value = _array(kind, *shape, cells, generator) if value is None else value
            arguments[parameter] = dtype(value) if kind == "number" else value
            if isinstance(value, np.ndarray):
                whole = kind in ("edges", "spans", "places", "chosen", "masks")
                arguments[parameter] = value if whole else value.astype(dtype)
        before = {k: v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype == dtype else v
                  for k, v in arguments.items()}  # fmt: skip
        expected = before | oracle(**before)
        given = {k: xp.array(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
        getattr(module, name)(*given.values())
        for parameter, kind in kinds(name).items():
            if not hasattr(arguments[parameter], "shape") or not arguments[parameter].shape:
                continue
            found = given[parameter] if xp is np else given[parameter].get()
            found = found.sum(axis=0) if kind == "sums" else found
            most = max(1.0, float(np.abs(expected[parameter]).max()))
            np.testing.assert_allclose(
                found, expected[parameter], rtol=0, atol=most * (1e-4 if dtype == np.float32 else 1e-11),
                err_msg=f"{name}: {parameter} with {settings}",
            )  # fmt: skip


def tolerance(dtype):
    return {"rtol": 0, "atol": 2e-6 if dtype == np.float32 else 1e-14}


def cells(twin, scores):
    return np.zeros((twin.cells(*scores.shape), scores.shape[1]), scores.dtype)
