"""Tests for a GPU, by a stand-in for CuPy: what the host does for CUDA is tested where there is none."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_tests_for_a_gpu_pass_on_a_stand_in():
    path = os.pathsep.join([str(TESTS / "standin"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NUMBA_ENA"))}
    options = ("-q", "-m", "gpu and not hardware", "-p", "twins", "-p", "no:cacheprovider", "-p", "no:xdist", "-rfE")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(TESTS)], env={**environment, "PYTHONPATH": path},
        cwd=TESTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert " passed" in done.stdout.splitlines()[-1]
