"""The code keeps its own measures: short files, short functions, few parameters, and docstrings that name them."""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re

import pytest
from conftest import ROOT

import hebbcore
import loaders

FOLDERS = ("hebbcore", "loaders", "examples", "benchmarks", "tests")
FILES = [path.relative_to(ROOT) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


NEEDS = {  # what modules cannot be imported without
    "hebbcore.page.": ("starlette", "uvicorn"),  # the extra label
    "hebbcore.bridges.torch_module": ("torch",),
    "hebbcore.bridges.jax_operations": ("jax",),
}
OUT_OF_REACH = tuple(
    begin for begin, packages in NEEDS.items() if not all(importlib.util.find_spec(name) for name in packages)
)


def modules():
    """Yield every module of both packages that can be imported; a __main__ would run."""
    for package in (hebbcore, loaders):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__") and not found.name.startswith(OUT_OF_REACH):
                yield importlib.import_module(found.name)


def public():
    """Return {name: function or class} of what the modules name in an __all__, each once."""
    things = {}
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                things[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return things


PUBLIC = public()


def functions():
    """Yield (path, name with its module, node) of every function of the packages."""
    for path in FILES:
        if path.parts[0] in ("hebbcore", "loaders"):
            module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path, f"{module}.{node.name}", node


def lines_of(node):
    """Return the number of a function's lines, those of its docstring and decorators left out."""
    first = node.body[0]
    doc = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
    return node.end_lineno - node.lineno + 1 - doc


def positional(node):
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return [name for name in names if name not in ("self", "cls")]


def test_no_file_is_longer_than_400_lines():
    counts = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in FILES}
    assert {path: count for path, count in counts.items() if count > 400} == {}


def test_no_function_is_longer_than_60_lines():
    counts = {name: lines_of(node) for _, name, node in functions() if name not in PUBLIC}
    assert {name: count for name, count in counts.items() if count > 60} == {}


def test_no_function_has_more_than_8_positional_parameters():
    found = {name: positional(node) for _, name, node in functions() if name not in PUBLIC}
    assert {name: names for name, names in found.items() if len(names) > 8} == {}


def parameters(thing):
    """Return the names that a call takes; a protocol is not called."""
    if getattr(thing, "_is_protocol", False):
        return []
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [stars.get(item.kind, "") + item.name for item in inspect.signature(thing).parameters.values()]


def names_in(text, title):
    """Return the names that a section of a docstring explains."""
    section = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-{{3,}}$|\Z)", text, re.DOTALL | re.MULTILINE)
    heads = re.findall(r"^([\w*][\w*, ]*)(?: : .*)?$", section[1], re.MULTILINE) if section else []
    return [name for head in heads for name in head.split(", ")]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_docstring_of_a_public_name_names_its_parameters(name):
    """The parameters of records, such as a NamedTuple's, are their attributes."""
    text, expected = inspect.cleandoc(PUBLIC[name].__doc__ or ""), parameters(PUBLIC[name])
    assert text, "has no docstring"
    told = names_in(text, "Parameters") or (expected and names_in(text, "Attributes"))
    assert sorted(told) == sorted(expected)
