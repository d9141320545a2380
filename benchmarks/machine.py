"""What a figure was measured on: versions, the CPU, its caches, and the kernels of the BLAS."""

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import threadpoolctl

import hebbcore
from hebbcore.engine import caches, parallel

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "scikit-learn", "cupy-cuda12x", "numba-cuda")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    """Return the name of the CPU as Linux tells it, elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def about() -> dict[str, Any]:
    """Return a description for a benchmark's JSON."""
    return {
        "hebbcore": hebbcore.__version__,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cache_bytes": {f"level {level}": size for level, size in caches.sizes().items()},
        "blas": [
            {key: library.get(key) for key in ("internal_api", "version", "architecture", "num_threads")}
            for library in threadpoolctl.threadpool_info()
            if library["user_api"] == "blas"
        ],
        "threads": parallel.threads(),
    }
