"""A stand-in for CuPy that counts, on any machine, what a step asks of a GPU.

Its arrays lie in NumPy's memory. NumPy carries out what moves numbers about; kernels and GEMMs only count, so that
numbers mean nothing, and a step of any size is fast. What NumPy does by one loop counts as one launch, as in CuPy.
"""

import collections
import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

COUNTS: collections.Counter[str] = collections.Counter()


class Counted(np.ndarray):
    """An array as if on a GPU."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """Count one launch."""
        COUNTS[f"operation {ufunc.__name__}{'' if method == '__call__' else '.' + method}"] += 1
        if out is not None:
            options["out"] = tuple(map(_plain, out))
        with np.errstate(all="ignore"):
            result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        return None if result is None else out[0] if out is not None else counted(result)

    def __array_function__(self, function: Any, kinds: Any, arguments: Any, options: Any) -> Any:
        """Count one launch for what NumPy does without ufuncs."""
        if function.__name__ in ("where", "tril", "concatenate", "bincount", "argsort", "sort", "stack", "take"):
            COUNTS[f"operation {function.__name__}"] += 1
        return counted(super().__array_function__(function, kinds, arguments, options))

    def __setitem__(self, key: Any, value: Any) -> None:
        COUNTS["operation setitem"] += 1
        self.view(np.ndarray)[_plain(key)] = _plain(value)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, np.ndarray) or (isinstance(key, tuple) and any(isinstance(k, np.ndarray) for k in key)):
            COUNTS["operation take"] += 1
        return counted(self.view(np.ndarray)[_plain(key)])

    def astype(self, dtype: Any, *rest: Any, **options: Any) -> Any:
        """Count one launch, if there is something to do."""
        if options.get("copy", True) or self.dtype != dtype:
            COUNTS["operation astype"] += 1
        return super().astype(dtype, *rest, **options)

    def copy(self, order: Any = "C") -> Any:
        """Count one launch."""
        COUNTS["operation copy"] += 1
        return super().copy(order)

    def argmax(self, axis: Any = None, *rest: Any, **options: Any) -> Any:
        """Count one launch."""
        COUNTS["operation argmax"] += 1
        return counted(self.view(np.ndarray).argmax(axis, *rest, **options))

    def get(self) -> Any:
        """Count a synchronisation."""
        COUNTS["synchronisation get"] += 1
        return self.view(np.ndarray)

    def item(self, *rest: Any) -> Any:
        """Count a synchronisation."""
        COUNTS["synchronisation item"] += 1
        return self.view(np.ndarray).item(*rest)

    def tolist(self) -> Any:
        """Count a synchronisation."""
        COUNTS["synchronisation tolist"] += 1
        return self.view(np.ndarray).tolist()

    def __bool__(self) -> bool:
        COUNTS["synchronisation bool"] += 1
        return bool(self.view(np.ndarray))

    def __float__(self) -> float:
        COUNTS["synchronisation float"] += 1
        return float(self.view(np.ndarray))

    def __int__(self) -> int:
        COUNTS["synchronisation int"] += 1
        return int(self.view(np.ndarray))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.view(np.ndarray) if isinstance(value, Counted) else value


def counted(value: Any) -> Any:
    """Return NumPy's result as CuPy returns it: an array on the device, also of no axis."""
    if isinstance(value, tuple):
        return tuple(map(counted, value))
    return np.asarray(value).view(Counted) if isinstance(value, np.ndarray | np.generic) else value


class _Cupy(types.ModuleType):
    """The module in the place of cupy."""

    ndarray = Counted

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not callable(found) or isinstance(found, type | np.ufunc):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            if name in ("zeros", "ones", "full", "arange", "zeros_like", "ones_like", "full_like"):
                COUNTS[f"operation {name}"] += 1
            elif name in ("array", "asarray") and not isinstance(arguments[0], Counted):
                COUNTS["operation copy from host"] += 1
            elif name == "ascontiguousarray" and not arguments[0].flags.c_contiguous:
                COUNTS["operation copy"] += 1
            return counted(found(*arguments, **options))

        return call

    def asnumpy(self, array: Any) -> Any:
        """Count a synchronisation."""
        return array.get() if isinstance(array, Counted) else np.asarray(array)


def total(kind: str) -> int:
    """Return how many there were of a kind: operation, kernel, gemm or synchronisation."""
    return sum(count for name, count in COUNTS.items() if name.split()[0] == kind)


@contextlib.contextmanager
def counting() -> Iterator[Any]:
    """Put the module in the place of cupy for a while; yields it. Restores all it changed."""
    from hebbcore.engine import devices, gemm
    from hebbcore.engine.kernels import cuda

    def count_gemm(*_: Any) -> None:
        COUNTS["gemm"] += 1

    def wait() -> None:
        COUNTS["synchronisation stream"] += 1

    def count_kernel(kernel: Any, *_: Any) -> None:
        COUNTS[f"kernel {kernel.py_func.__name__}"] += 1

    module = _Cupy("cupy")
    stream = types.SimpleNamespace(synchronize=wait)
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDevice=lambda: 0, memGetInfo=lambda: (2**40, 2**40)),
        get_current_stream=lambda: stream,
    )
    changes = [
        (gemm, "_gemm_ex", count_gemm), (gemm, "_cublas", lambda: None), (cuda, "_launch", count_kernel),
        (devices, "cuda_status", lambda: (True, "counted")), (devices, "here", lambda: contextlib.nullcontext),
    ]  # fmt: skip
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    cupy = sys.modules.get("cupy")
    sys.modules["cupy"] = module
    for where, name, value in changes:
        setattr(where, name, value)
    try:
        yield module
    finally:
        for where, name, value in before:
            setattr(where, name, value)
        del sys.modules["cupy"]
        if cupy is not None:
            sys.modules["cupy"] = cupy
