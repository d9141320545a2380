"""Imports go one way, CuPy stays optional, and importing hebbcore is cheap."""

import ast
import functools
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The rooms of hebbcore, modules and packages: each may import only from itself and from those before it. Within a room
# modules may import each other in any order, but not in a circle. A new room is a line here; a new module needs none.
ROOMS = [
    "interrupts",  # before any slow import
    "version",
    "ours",
    "checks",
    "texts",
    "files",
    "hdf5",
    "engine",
    "pairs",
    "streams",
    "rules",
    "layers",
    "graph",
    "pipeline",
    "summary",
    "predictions",
    "trainable",
    "network",
    "dictionary",
    "presets",
    "fields",
    "serialize",
    "safetensors",
    "checkpoint",
    "formulas",
    "training",
    "bridges",
    "dispatch",
    "fitted",
    "features",
    "estimators",
    "evaluation",
    "classify",
    "labelling",
    "export",
    "loading",
    "",  # hebbcore/__init__.py, which loads those before "loading" that are cheap
    "page",
    "runs",
    "plots",
    "cli",
    "__main__",
]
KNOWS_ALL = "hebbcore.cli"  # the one package that may know the loaders too
IMPORTS_WHAT_IT_IS_TOLD = {"hebbcore.cli", "hebbcore.runs.imports"}  # a command of COMMANDS, a user's own modules
CUPY_FILES = {
    "hebbcore.engine.devices",
    "hebbcore.engine.backend",
    "hebbcore.engine.gemm",
    "hebbcore.engine.group.nccl",
    "hebbcore.engine.kernels.launch",
    "hebbcore.evaluation.ridge.dense",
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
NAMES = {name for name in KNOWN if "." in name}
WORKED_OUT = "a name that is worked out"


def imported_name(call):
    """Return the name that importlib.import_module or __import__ is called with; None for other calls."""
    if getattr(call.func, "attr", getattr(call.func, "id", "")) not in ("import_module", "__import__"):
        return None
    name = call.args[0]
    return name.value if isinstance(name, ast.Constant) else WORKED_OUT


def imports_of(source, name, is_package):
    """Return the set of (module, whether imported inside a function) that source code imports.

    A text that is the name of a module of the repository counts as one in a function: importlib gets it from a table.
    """
    found = set()

    def visit(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and child.value in NAMES:
                found.add((child.value, True))
            elif isinstance(child, ast.Call) and imported_name(child) is not None:
                found.add((imported_name(child), inside))
            elif isinstance(child, ast.Import):
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


@functools.cache
def imports_of_file(name):
    path = KNOWN[name]
    return imports_of(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")


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
        ("COMMANDS = {'shards': ('loaders.commands', 'sets')}", ("loaders.commands", True)),
        ("importlib.import_module('cupy.cuda')", ("cupy.cuda", False)),
        ("def f():\n    __import__('cupy.cuda')", ("cupy.cuda", True)),
        ("import_module(name)", (WORKED_OUT, False)),
        ("from . import hpca", ("hebbcore.rules.hpca", False)),
        ("from .. import checks", ("hebbcore.checks", False)),
        ("from ..engine.backend import Array", ("hebbcore.engine.backend", False)),
    ],
)
def test_these_tests_see_every_form_of_import(source, expected):
    assert imports_of(source, "hebbcore.rules.krotov", is_package=False) == {expected}


def test_relative_imports_of_a_package_start_at_itself():
    assert imports_of("from .hpca import HPCA", "hebbcore.rules", True) == {("hebbcore.rules.hpca", False)}


def room_of(name):
    return name.split(".")[1] if "." in name else ""


def test_rooms_are_listed_once_and_are_there():
    assert len(ROOMS) == len(set(ROOMS))
    new = sorted(set(map(room_of, HEBBCORE)) - set(ROOMS))
    assert not new, f"new rooms: {new}; add them to ROOMS in tests/test_imports.py, after all that they import"
    assert set(ROOMS) == set(map(room_of, HEBBCORE))


def test_modules_import_only_from_their_rooms_and_earlier_ones():
    place = {room: number for number, room in enumerate(ROOMS)}
    late = [
        f"{name} imports {module}, whose room comes after its own"
        for name in HEBBCORE
        for module, _ in sorted(imports_of_file(name))
        if belongs_to(module, "hebbcore")
        and place.get(room_of(module), len(ROOMS)) > place.get(room_of(name), len(ROOMS))
    ]
    assert not late


@pytest.mark.parametrize("modules", [HEBBCORE, LOADERS], ids=["hebbcore", "loaders"])
def test_no_module_imports_itself_by_way_of_others(modules):
    graph = {name: {module for module, _ in imports_of_file(name) if module in modules} for name in modules}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these modules import each other in a circle: {' ← '.join(error.args[1])}")


def users_of(*packages, of=KNOWN):
    """Return {module that imports anything of some packages: set of (what it imports, whether inside a function)}."""
    found = {}
    for name in of:
        for module, inside in imports_of_file(name):
            if any(belongs_to(module, package) for package in packages):
                found.setdefault(name, set()).add((module, inside))
    return found


def at_module_level(found):
    """Return those of users_of that import not only inside functions."""
    return [name for name, imports in found.items() if not all(inside for _, inside in imports)]


def test_modules_are_imported_by_names_that_are_written_out():
    """These tests know nothing of an import whose name is worked out."""
    assert users_of(WORKED_OUT).keys() <= IMPORTS_WHAT_IT_IS_TOLD


def test_hebbcore_does_not_know_the_loaders():
    assert not users_of("loaders", of=[name for name in HEBBCORE if not belongs_to(name, KNOWS_ALL)])


def test_the_loaders_do_not_know_hebbcore():
    assert not users_of("hebbcore", of=LOADERS)


def test_cupy_is_imported_in_functions_of_few_files():
    found = users_of("cupy", "cupyx")
    assert not at_module_level(found)
    assert found.keys() <= CUPY_FILES


def test_torch_and_jax_are_imported_by_their_bridges_alone():
    """A user's import of hebbcore.bridges.torch takes no PyTorch yet: what it is made of is imported in functions."""
    allowed = {
        "hebbcore.bridges.torch_module": {("torch", False)},
        "hebbcore.bridges.jax_operations": {("jax", False)},
        "hebbcore.bridges.jax": {("jax", True)},
    }
    for name, found in users_of("torch", "jax").items():
        assert {(module.split(".")[0], inside) for module, inside in found} <= allowed.get(name, set()), name
    assert not at_module_level(users_of("hebbcore.bridges.torch_module", "hebbcore.bridges.jax_operations"))


def test_packages_of_extras_are_imported_in_functions():
    assert not at_module_level(users_of("onnx", "skl2onnx", "safetensors"))


@pytest.fixture(scope="module")
def loaded():
    """Return the names of all modules that a fresh `import hebbcore` loads."""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, "-c", "import hebbcore, sys; print('\\n'.join(sys.modules))"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "heavy",
    [
        "cupy",
        "torch",
        "jax",
        "onnx",
        "sklearn",
        "loaders",
        "numba.cuda",
        "numba_cuda",
        "PIL",
        "h5py",
        "matplotlib",
        "tomllib",
        "tqdm",
    ],
)
def test_importing_hebbcore_does_not_load(loaded, heavy):
    assert "hebbcore.training.layer" in loaded
    assert not [name for name in loaded if belongs_to(name, heavy)]
