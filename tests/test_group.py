"""Groups of processes learn what one process learns."""

import json
import os

import group_cases
import pytest
from conftest import ROOT
from group_helpers import NEEDS_MPI, mpiexec

import hebbcore
from hebbcore.engine import parallel

TOLERANCE = 1e-12  # relative to the largest number of an array, float64, after 20 steps and more


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return {case: {size: differences of the ranks}} of all cases, from one call of mpiexec."""
    path = tmp_path_factory.mktemp("group") / "results"
    done = mpiexec(max(group_cases.SIZES), ROOT / "tests" / "group_cases.py", path)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads(path.with_name(f"results.{rank}").read_text()) for rank in range(max(group_cases.SIZES))]
    return {
        name: {size: [rank[name][str(size)] for rank in ranks[:size]] for size in group_cases.SIZES}
        for name in ranks[0]
    }


@NEEDS_MPI
@pytest.mark.parametrize("name", group_cases.cases())
def test_a_group_learns_what_one_process_learns(results, name):
    for size, differences in results[name].items():
        errors = [text for text in differences if isinstance(text, str)]
        assert not errors, f"{size} processes: {errors[0]}"
        assert max(differences) <= TOLERANCE, f"{size} processes: {differences}"


@NEEDS_MPI
def test_processes_that_would_not_do_the_same_are_refused(tmp_path):
    done = mpiexec(2, ROOT / "tests" / "group_refusals.py", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads((tmp_path / f"results.{rank}").read_text())
        assert found.pop("nothing") is None
        assert found.pop("copies of shards") is None
        assert found.pop("the same batches") is None
        own = found.pop("statistics of one's own")
        assert own.startswith("fit: observer1 (Observer) is for one process: of a group each would observe its own")
        for name, error in found.items():
            assert error is not None, name
            assert f"rank 1 on {os.uname().nodename}" in error
            assert "differs from rank 0: " in error


SHARERS = """
import os, sys
from mpi4py import MPI
import hebbcore
from hebbcore.engine import parallel
cores, rank = sorted(os.sched_getaffinity(0)), MPI.COMM_WORLD.rank
if sys.argv[1:] == ["bound"]:
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
before = parallel.threads()
hebbcore.world(), hebbcore.world()
assert parallel.threads() == max(1, before // parallel._sharers)
sys.exit(parallel._sharers)
"""


@NEEDS_MPI
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores")
@pytest.mark.parametrize("bound", [False, True])
def test_processes_share_the_cores_that_they_have_in_common(tmp_path, bound):
    program = tmp_path / "program.py"
    program.write_text(SHARERS)
    cores = str(len(os.sched_getaffinity(0)))
    done = mpiexec(2, program, *["bound"] * bound, more={"OPENBLAS_NUM_THREADS": cores, "OMP_NUM_THREADS": cores})
    sharers = 1 if bound and int(cores) > 1 else 2
    assert done.returncode == sharers, done.stderr


def test_a_process_takes_its_part_of_the_cores(monkeypatch):
    monkeypatch.setattr(parallel, "usable_cores", lambda: frozenset(range(16)))
    monkeypatch.setattr(parallel, "_allowed", lambda cores: cores)
    monkeypatch.setattr(parallel, "_blas_threads", lambda: 12)
    assert parallel.threads() == 12
    for processes, threads in ((3, 5), (2, 5), (16, 1), (40, 1)):  # the most that were told of count
        monkeypatch.setattr(parallel, "_sharers", 3 if processes == 2 else 1)
        parallel.share_cores(processes)
        assert parallel.threads() == threads


def test_a_process_alone_is_a_group_of_one():
    group = hebbcore.world()
    assert (group.rank, group.size) == (0, 1)
    assert [member.rank for member in group.members] == [0]
    assert group.transport == "none: one process"
