"""Compiled kernels where no folder, or only some, can be written; caches that are damaged, full, or written at once."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import hebbcore
from hebbcore.engine.kernels import compiled, cpu
from hebbcore.engine.kernels.programs import PROGRAMS

ROOT = Path(hebbcore.__file__).parents[1]
# root may write everywhere, unless it gives that up
PREFIX = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
SCRIPT = """
import numpy as np
from hebbcore.engine.kernels import cpu
out = np.zeros((2, 3))
cpu.scatter(np.eye(2), np.array([0, 1]), np.ones((2, 3)), out)
assert (out == 1).all()
print(cpu.scatter.stats.cache_path, "hit" if sum(cpu.scatter.stats.cache_hits.values()) else "miss")
"""


@pytest.fixture
def installed(tmp_path):
    """Return a folder with a read-only copy of the package, and a read-only home."""
    if PREFIX and not shutil.which("setpriv"):
        pytest.skip("root may write everywhere; setpriv, which takes that from a process, is not there")
    place = tmp_path / "installed"
    shutil.copytree(ROOT / "hebbcore", place / "hebbcore", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "home").mkdir()
    (place / "tmp").mkdir()
    folders = [path for path in (place, *place.rglob("*")) if path.is_dir() and path.name != "tmp"]
    for path in folders:
        path.chmod(0o555)
    if subprocess.run([*PREFIX, "touch", place / "home" / "file"], capture_output=True).returncode == 0:
        pytest.skip("this user may write into read-only folders")
    yield place
    for path in folders:
        path.chmod(0o755)


def run(place, **environment):
    """Compute something in a process; returns (where its code is kept, whether it was found there, stderr)."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "TMPDIR": str(place / "tmp"), **environment}
    done = subprocess.run(
        [*PREFIX, sys.executable, "-c", SCRIPT], cwd=place, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    folder, found = done.stdout.split()
    return folder, found, done.stderr


def test_a_read_only_installation_and_home_use_the_temporary_folder_or_none(installed):
    own = installed / "tmp" / f"hebbcore-{os.getuid()}"
    folder, found, said = run(installed, HOME=str(installed / "home"))
    assert (Path(folder).parent, found) == (own, "miss")
    assert said == f"compiled kernels are kept in {own}; set NUMBA_CACHE_DIR to a folder that stays\n"
    assert own.stat().st_mode & 0o777 == 0o700
    assert run(installed, HOME="/proc/nowhere") == (folder, "hit", said)
    own.chmod(0o755)  # others could see it, and with another mode put code there
    folder, found, said = run(installed, HOME="/proc/nowhere")
    assert (folder, found) == ("None", "miss")
    assert "no folder to keep compiled kernels in" in said
    assert len(said.splitlines()) == 1


def test_folders_that_are_given_come_first(installed, tmp_path):
    home, given = tmp_path / "home", tmp_path / "given"
    home.mkdir()
    folder, found, said = run(installed, HOME=str(home))
    assert folder.startswith(f"{home}/.cache/numba/")
    assert (found, said) == ("miss", "")
    folder, _, said = run(installed, HOME=str(home), XDG_CACHE_HOME=str(home / "xdg"))
    assert folder.startswith(f"{home}/xdg/numba/")
    folder, _, said = run(installed, HOME=str(home), NUMBA_CACHE_DIR=str(given))
    assert folder.startswith(f"{given}/")
    assert said == ""


@pytest.mark.parametrize("kind", ["link", "file", "another's"])
def test_a_temporary_folder_that_is_not_safe_is_not_used(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"hebbcore-{os.getuid()}"
    if kind == "link":
        (tmp_path / "there").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "there")
    elif kind == "file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir(mode=0o700)
        owner = os.getuid() + 1
        monkeypatch.setattr(compiled.os, "getuid", lambda: owner)
        folder.rename(tmp_path / f"hebbcore-{owner}")
    assert compiled._private_folder() is None


@pytest.fixture
def doubled(tmp_path, monkeypatch, caplog):
    """Return a function that gives a new kernel, with its code kept in a folder of the test, as a new process would."""
    monkeypatch.setattr(compiled.caching.config, "CACHE_DIR", str(tmp_path))
    compiled._say.cache_clear()

    def double(values):
        for i in range(values.size):
            values[i] *= 2

    return lambda: compiled.kernel()(double)


def works(kernel, dtype=np.float64):
    values = np.arange(3).astype(dtype)
    kernel(values)
    np.testing.assert_array_equal(values, [0, 2, 4])
    return sum(kernel.stats.cache_hits.values()) == 1


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
def test_a_damaged_cache_is_made_anew(doubled, tmp_path, caplog, suffix, damage):
    assert not works(doubled())
    assert works(doubled())
    (file,) = tmp_path.rglob(f"*{suffix}")
    data = file.read_bytes()
    file.write_bytes({"cut": data[: len(data) // 2], "foreign": b"\x80\x04}.}" * 9, "empty": b""}[damage])
    assert not works(doubled())
    assert works(doubled())
    assert len(caplog.records) <= 1
    assert all("are damaged" in record.message for record in caplog.records)


def test_a_cache_that_cannot_be_written_any_more(doubled, monkeypatch, caplog):
    kernels = [doubled(), doubled()]

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(compiled.caching.IndexDataCacheFile, "save", full)
        for kernel in kernels:
            assert not works(kernel)
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text
    works(kernels[0], np.float32)
    assert not works(doubled())
    assert works(doubled())


def test_code_of_another_signature_is_not_taken(doubled, tmp_path):
    works(doubled(), np.float32)
    kernel = doubled()
    works(kernel, np.float64)
    one, two = sorted(tmp_path.rglob("*.nbc"))
    two.write_bytes(one.read_bytes())  # as when two processes write at once
    kernel = doubled()
    assert not works(kernel, np.float64)
    assert works(doubled(), np.float64)


def test_processes_that_compile_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)},
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert out.startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("programs/vectors.py", "vector[d] = (vector[d] - shift[d])", "vector[d] = (vector[d] + shift[d])"),
        ("rows.py", "return range(size)", "return range(size - 1)"),  # inlined into the body
    ],
)
def test_a_change_in_another_file_than_the_kernels_is_not_hidden_by_the_cache(file, old, new, tmp_path):
    shutil.copytree(ROOT / "hebbcore", tmp_path / "hebbcore", ignore=shutil.ignore_patterns("__pycache__"))
    script = """
import numpy as np
from hebbcore.engine.kernels import cpu
vectors = np.ones((1, 2))
cpu.standardize(vectors, np.ones(2), np.ones(2))
print(vectors.tolist(), sum(cpu.standardize.stats.cache_hits.values()))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def result():
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert [result(), result()] == ["[[0.0, 0.0]] 0\n", "[[0.0, 0.0]] 1\n"]
    path = tmp_path / "hebbcore" / "engine" / "kernels" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    changed = "[[2.0, 2.0]]" if file == "programs/vectors.py" else "[[0.0, 1.0]]"
    assert [result(), result()] == [f"{changed} 0\n", f"{changed} 1\n"]


def test_every_kernel_is_kept():
    kernels = [value for value in vars(cpu).values() if hasattr(value, "stats")]
    assert len(kernels) == len(PROGRAMS) + 6  # and those of the CPU alone: gather, relu, two that scatter, …
    assert {type(kernel._cache) for kernel in kernels} == {compiled._Cache}
