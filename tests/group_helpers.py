"""Running processes together by mpiexec, for the tests of groups."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT

LOOK = 0.02  # seconds
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
NEEDS_MPI = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None or MPIEXEC is None,
    reason='mpi4py or mpiexec is not installed: pip install "hebbcore[mpi]" mpich',
)


def environment(more=()):
    """Return the environment of ranks: one thread each, and what Open MPI wants where there are few cores."""
    few = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    few |= dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
    few |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    few |= {"PRTE_MCA_hwloc_default_binding_policy": "none", "OMPI_MCA_hwloc_base_binding_policy": "none"}
    whole = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**whole, **few, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", **dict(more)}


def line_of(size, *arguments):
    """Return the command line of so many processes of `python -m mpi4py …`."""
    return [MPIEXEC, "-n", str(size), sys.executable, "-m", "mpi4py", *map(str, arguments)]


def mpiexec(size, *arguments, timeout=300, more=()):
    """Run it to its end; returns the subprocess.CompletedProcess."""
    return finished(line_of(size, *arguments), timeout, more)


def finished(line, timeout, more=(), act=None):
    """Run a command line to its end, for so many seconds at most in which no process of it waits for a core.

    act: called until it returns True, from when on the seconds count anew. Returns the subprocess.CompletedProcess,
    with the seconds as `seconds`.
    """
    seconds = queued = 0.0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            list(map(str, line)), env=environment(more), cwd=ROOT, stdout=out, stderr=errors, text=True
        ) as process:
            while process.poll() is None and seconds < timeout:
                time.sleep(LOOK)
                before, queued = queued, in_queues(process.pid)
                seconds += LOOK * (queued - before < LOOK / 2)
                if act is not None and act():
                    act, seconds = None, 0.0
            process.kill()
        out.seek(0)
        errors.seek(0)
        done = subprocess.CompletedProcess(line, process.returncode, out.read(), errors.read())
    assert seconds < timeout, f"no end after {timeout} seconds: {done.stderr}"
    done.seconds = seconds
    return done


def in_queues(pid):
    """Return for how many seconds a process and those that it started have waited for a core; 0 if that is unknown."""
    try:
        own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
        started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return own + sum(map(in_queues, started))
