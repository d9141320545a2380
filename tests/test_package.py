"""The package as pip gets it: sdist and wheel hold what the tree holds, and the wheel works away from the tree."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build")
pytest.importorskip("setuptools", minversion="77")

ROOT = Path(__file__).parent.parent
PACKAGES = ("hebbcore", "loaders")
PARTS = (*PACKAGES, "tests", "docs", "examples", "benchmarks")
CORE = """
import numpy as np
from sklearn.datasets import load_digits

import hebbcore, loaders
from hebbcore.estimators import HebbianTransformer
from hebbcore.evaluation import RidgeReadout

digits = load_digits()
images = (digits.images / 16).astype(np.float32)[..., None]
layer = hebbcore.train_layer(images, 8, 5, rule="swta", learning_rate=0.5, initial_weights="patches", device="cpu")
features = layer.transform(images)
assert features.shape == (1797, 4, 4, 8), features.shape
rows = features.reshape(len(features), -1)
print(RidgeReadout().fit(rows[:1000], digits.target[:1000]).score(rows[1000:], digits.target[1000:]))
print(hebbcore.__file__)
print(loaders.__file__)
"""


def run(*command, **options):
    """Run a command to its end, without this checkout on any path, and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NUMBA_ENABLE_CUDASIM")}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, check=False, env=environment, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the sdist and the wheel of a copy of the tree, the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("package")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / "tree" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file() and file.name[0] != ".":
            shutil.copy(file, folder / "tree")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", cwd=folder / "tree")
    (sdist,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return sdist, wheel


def tree(*folders):
    """Return the files of folders of the tree that belong to it."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(ROOT)) for path in found if path.parent.name != "__pycache__" and path.name[0] != "."}


def test_the_wheel_holds_both_packages_whole_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tree(*PACKAGES)


def test_the_sdist_holds_what_a_user_works_with(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= tree(*PARTS)
    files = ("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "Makefile", "mkdocs.yml")
    assert names >= {*files, "pyproject.toml"}


def test_the_wheel_works_in_a_clean_environment(built, tmp_path):
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    python, scripts = place / "bin" / "python", place / "bin"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", built[1])
    here = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # the libraries of this environment, but not its hebbcore: an editable one is a .pth file, which such a line skips
    Path(here, "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    accuracy, *files = run(python, "-c", CORE, cwd=tmp_path).splitlines()
    assert float(accuracy) > 0.75
    assert all(Path(file).is_relative_to(here) for file in files)
    assert run(scripts / "hebbcore", "--help", cwd=tmp_path).startswith("usage: hebbcore [-h]")
    assert "softhebb-cifar" in run(scripts / "hebbcore", "preset", cwd=tmp_path)
