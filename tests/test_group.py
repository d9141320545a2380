"""Groups of processes learn what one process learns."""

import json

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


def test_a_process_alone_is_a_group_of_one():
    group = hebbcore.world()
    assert (group.rank, group.size) == (0, 1)
    assert [member.rank for member in group.members] == [0]
    assert group.transport == "none: one process"
