"""Groups of processes learn what one process learns."""

import json
import os

import group_cases
import pytest
from conftest import ROOT
from group_helpers import NEEDS_MPI, mpiexec

import hebbcore

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


def test_a_process_alone_is_a_group_of_one():
    group = hebbcore.world()
    assert (group.rank, group.size) == (0, 1)
    assert [member.rank for member in group.members] == [0]
    assert group.transport == "none: one process"
