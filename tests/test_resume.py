"""A training that is killed again and again ends with the bits of one that was left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


@pytest.mark.parametrize(("case", "kills"), [("together", 9), ("shards", 9), ("layerwise", 4)])
def test_killed_trainings_end_with_the_same_bits(case, kills, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), case, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= kills
    assert set(report["digests"]) == {report["whole"]}
    assert report["torn"] == 0
    assert report["steps"] == sorted(set(report["steps"]))  # each step once
    assert report["left"] == []
