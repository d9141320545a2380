"""Imports go one way, CuPy stays optional, and importing hebbcore is cheap."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Every module of the package: each may import only from the ones before it. A package comes where its __init__ belongs.
# "package.*" stands for the package's modules that the list does not name: none of them imports another.
ORDER = [
    "hebbcore.interrupts",  # before any slow import
    "hebbcore.checks",
    "hebbcore.texts",
    "hebbcore.streams",
    "hebbcore.engine",
    "hebbcore.engine.backend",
    "hebbcore.engine.finite",
    "hebbcore.engine.kernels.elementary",
    "hebbcore.engine.kernels.rows",
    "hebbcore.engine.kernels.compiled",
    "hebbcore.engine.kernels.cpu",
    "hebbcore.engine.kernels.cuda",
    "hebbcore.engine.kernels",
    "hebbcore.engine.devices",
    "hebbcore.engine.parallel",
    "hebbcore.engine.memory",
    "hebbcore.engine.gemm",
    "hebbcore.engine.patches",
    "hebbcore.engine.competition",
    "hebbcore.engine.rule",
    "hebbcore.rules.cosine",
    "hebbcore.rules.p_norm",
    "hebbcore.rules.norm_seeking",
    "hebbcore.rules.*",
    "hebbcore.rules",
    "hebbcore.engine.soundness",
    "hebbcore.engine.chunks",
    "hebbcore.engine.update",
    "hebbcore.engine.winners",
    "hebbcore.engine.rivalry",
    "hebbcore.engine.starting",
    "hebbcore.layers.hebbian",
    "hebbcore.layers.base",
    "hebbcore.layers.windows",
    "hebbcore.layers.learner",
    "hebbcore.layers.*",
    "hebbcore.layers",
    "hebbcore.network",
    "hebbcore.training",
    "hebbcore.training.ahead",
    "hebbcore.training.array_batches",
    "hebbcore.training.batches",
    "hebbcore.training.layer",
    "hebbcore.files",
    "hebbcore.hdf5",
    "hebbcore.serialize",
    "hebbcore.checkpoint",
    "hebbcore.training.phases",
    "hebbcore.training.diagnostics",
    "hebbcore.training.cache",
    "hebbcore.training.settings",
    "hebbcore.training.record",
    "hebbcore.training.signals",
    "hebbcore.training.header",
    "hebbcore.training.progress",
    "hebbcore.training.run",
    "hebbcore.training.steps",
    "hebbcore.training.loop",
    "hebbcore.training.network",
    "hebbcore.presets",
    "hebbcore.runs",
    "hebbcore.runs.imports",
    "hebbcore.runs.config",
    "hebbcore.features",
    "hebbcore.features.storage",
    "hebbcore.features.extract",
    "hebbcore.runs.compare",
    "hebbcore.plots",
    "hebbcore.estimators",
    "hebbcore",
    "hebbcore.evaluation.batches",
    "hebbcore.evaluation.ridge",
    "hebbcore.evaluation.ridge.linear_system",
    "hebbcore.evaluation.ridge.sums",
    "hebbcore.evaluation.ridge.holdout",
    "hebbcore.evaluation.ridge.calibration",
    "hebbcore.evaluation.ridge.systems",
    "hebbcore.evaluation.ridge.rows",
    "hebbcore.evaluation.ridge.readout",
    "hebbcore.evaluation.metrics",
    "hebbcore.evaluation.splits",
    "hebbcore.evaluation.readouts",
    "hebbcore.evaluation.retrieval",
    "hebbcore.evaluation.baselines",
    "hebbcore.evaluation.sources",
    "hebbcore.evaluation.survey",
    "hebbcore.evaluation.passes",
    "hebbcore.evaluation.results",
    "hebbcore.evaluation.selection",
    "hebbcore.evaluation.evaluate",
    "hebbcore.evaluation.report",
    "hebbcore.evaluation",
    "hebbcore.runs.sweeps",
    "hebbcore.cli",
    "hebbcore.__main__",
]
KNOWS_ALL = "hebbcore.cli"  # the one package that may know the loaders too
CUPY_FILES = {
    "hebbcore.engine.devices",
    "hebbcore.engine.backend",
    "hebbcore.engine.gemm",
    "hebbcore.engine.kernels.cuda",
    "hebbcore.evaluation.ridge.linear_system",
}


def module_name(path):
    """Return the dotted name of a file of the repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_of(package):
    """Return {dotted name: path} of a package's files."""
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


HEBBCORE, LOADERS = modules_of("hebbcore"), modules_of("loaders")
KNOWN = {**HEBBCORE, **LOADERS}


def imports_of(source, name, is_package):
    """Return the set of (module, whether imported inside a function) that source code imports."""
    found = set()

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parents = name.split(".")
                    parents = parents[: len(parents) - child.level + is_package]
                    base = ".".join([*parents, base] if base else parents)
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    found.add((whole if whole in KNOWN else base, inside))
            visit(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    visit(ast.parse(source), False)
    return found


def imports_of_file(name):
    path = KNOWN[name]
    return imports_of(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")


def place_of(name):
    """Return where in ORDER a module stands, by its name or as one of its package's others; None if it does not."""
    for entry in (name, f"{name.rpartition('.')[0]}.*"):
        if entry in ORDER:
            return ORDER.index(entry)
    return None


def belongs_to(module, package):
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import cupy", ("cupy", False)),
        ("import cupy.cuda as gpu", ("cupy.cuda", False)),
        ("try:\n    from cupy.cuda import cublas\nexcept ImportError:\n    pass", ("cupy.cuda", False)),
        ("class A:\n    import cupy", ("cupy", False)),
        ("def f():\n    import cupy", ("cupy", True)),
        ("def f():\n    if f:\n        from cupy import cuda", ("cupy", True)),
        ("from hebbcore.engine import backend", ("hebbcore.engine.backend", False)),
        ("from hebbcore import train_layer", ("hebbcore", False)),
        ("from hebbcore.engine.kernels import rows", ("hebbcore.engine.kernels.rows", False)),
        ("from hebbcore.engine.backend import Array", ("hebbcore.engine.backend", False)),
        ("from . import hpca", ("hebbcore.rules.hpca", False)),
        ("from .. import checks", ("hebbcore.checks", False)),
        ("from ..engine.backend import Array", ("hebbcore.engine.backend", False)),
    ],
)
def test_these_tests_see_every_form_of_import(source, expected):
    assert imports_of(source, "hebbcore.rules.krotov", is_package=False) == {expected}


def test_relative_imports_of_a_package_start_at_itself():
    assert imports_of("from .hpca import HPCA", "hebbcore.rules", True) == {("hebbcore.rules.hpca", False)}


@pytest.mark.parametrize("name", HEBBCORE)
def test_a_module_imports_only_from_earlier_ones(name):
    if belongs_to(name, KNOWS_ALL):
        return
    place = place_of(name)
    if place is None:
        pytest.fail(f"{name} is new: add it to ORDER in tests/test_imports.py, after everything that it imports.")
    own = {module for module, _ in imports_of_file(name) if belongs_to(module, "hebbcore")}
    late = sorted(module for module in own if place_of(module) is None or place_of(module) >= place)
    assert not late, f"{name} imports {late}, which come no earlier than it does"


def test_the_order_lists_no_module_twice_and_none_that_is_gone():
    assert len(ORDER) == len(set(ORDER))
    assert {entry for entry in ORDER if not entry.endswith(".*")} <= set(HEBBCORE)


@pytest.mark.parametrize("name", [name for name in HEBBCORE if not belongs_to(name, KNOWS_ALL)])
def test_hebbcore_does_not_know_the_loaders(name):
    assert not [module for module, _ in imports_of_file(name) if belongs_to(module, "loaders")]


@pytest.mark.parametrize("name", LOADERS)
def test_the_loaders_do_not_know_hebbcore(name):
    assert not [module for module, _ in imports_of_file(name) if belongs_to(module, "hebbcore")]


@pytest.mark.parametrize("name", KNOWN)
def test_cupy_is_imported_in_functions_of_few_files(name):
    found = imports_of_file(name)
    places = [inside for module, inside in found if belongs_to(module, "cupy") or belongs_to(module, "cupyx")]
    assert all(places), f"{name} imports cupy at module level"
    assert not places or name in CUPY_FILES, f"{name} imports cupy; only {sorted(CUPY_FILES)} may"


@pytest.mark.parametrize("name", KNOWN)
def test_torch_and_jax_are_never_imported(name):
    assert not [module for module, _ in imports_of_file(name) if module.split(".")[0] in ("torch", "jax")]


@pytest.fixture(scope="module")
def loaded():
    """Return the names of all modules that a fresh `import hebbcore` loads."""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, "-c", "import hebbcore, sys; print('\\n'.join(sys.modules))"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "heavy",
    ["cupy", "torch", "jax", "sklearn", "loaders", "numba.cuda", "numba_cuda", "PIL", "h5py", "matplotlib", "tomllib"],
)
def test_importing_hebbcore_does_not_load(loaded, heavy):
    assert "hebbcore.training.layer" in loaded
    assert not [name for name in loaded if belongs_to(name, heavy)]
