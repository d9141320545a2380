"""Imports go one way, CuPy stays optional, and importing hebbcore is cheap."""

import ast
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
    "checks",
    "texts",
    "streams",
    "files",
    "hdf5",
    "engine",
    "rules",
    "layers",
    "graph",
    "pipeline",
    "summary",
    "predictions",
    "network",
    "dictionary",
    "presets",
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


@pytest.mark.parametrize("name", HEBBCORE)
def test_a_module_imports_only_from_its_room_and_earlier_ones(name):
    room = room_of(name)
    if room not in ROOMS:
        pytest.fail(f"{room} is a new room: add it to ROOMS in tests/test_imports.py, after all that it imports.")
    known = ROOMS[: ROOMS.index(room) + 1]
    own = {module for module, _ in imports_of_file(name) if belongs_to(module, "hebbcore")}
    late = sorted(module for module in own if room_of(module) not in known)
    assert not late, f"{name} imports {late}, whose rooms come after its own"


def test_rooms_are_listed_once_and_are_there():
    assert len(ROOMS) == len(set(ROOMS))
    assert set(ROOMS) == set(map(room_of, HEBBCORE))


@pytest.mark.parametrize("modules", [HEBBCORE, LOADERS], ids=["hebbcore", "loaders"])
def test_no_module_imports_itself_by_way_of_others(modules):
    graph = {name: {module for module, _ in imports_of_file(name) if module in modules} for name in modules}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"these modules import each other in a circle: {' ← '.join(error.args[1])}")


@pytest.mark.parametrize("name", KNOWN)
def test_modules_are_imported_by_names_that_are_written_out(name):
    """These tests know nothing of an import whose name is worked out."""
    if WORKED_OUT in {module for module, _ in imports_of_file(name)}:
        assert name in IMPORTS_WHAT_IT_IS_TOLD


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
def test_torch_and_jax_are_imported_by_their_bridges_alone(name):
    """A user's import of hebbcore.bridges.torch takes no PyTorch yet: what it is made of is imported in functions."""
    found = {(module.split(".")[0], inside) for module, inside in imports_of_file(name)}
    found = {(module, inside) for module, inside in found if module in ("torch", "jax")}
    allowed = {
        "hebbcore.bridges.torch_module": {("torch", False)},
        "hebbcore.bridges.jax_operations": {("jax", False)},
        "hebbcore.bridges.jax": {("jax", True)},
    }
    assert found <= allowed.get(name, set())
    for module, inside in imports_of_file(name):
        assert inside or module not in ("hebbcore.bridges.torch_module", "hebbcore.bridges.jax_operations"), (
            f"{name} imports {module}, which needs its library"
        )


@pytest.mark.parametrize("name", KNOWN)
def test_packages_of_extras_are_imported_in_functions(name):
    found = imports_of_file(name)
    assert all(inside for module, inside in found if module.split(".")[0] in ("onnx", "skl2onnx", "safetensors"))


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
