"""The pages and the code name the same things: links, public names, keys of the configuration, the version."""

import dataclasses
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

import hebbcore
from hebbcore.runs.config import Architecture, Config, Data
from hebbcore.training.settings import LEARNING_RATE, Training

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose_of(page):
    """Return a page without its blocks of code."""
    return FENCED.sub("", page.read_text("utf-8"))


def heading_ids(page):
    """Return the anchors that a page's headings get on the site."""
    found = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", re.sub(r"\{.*\}|`", "", text)).strip().lower() for text in found)
    return {re.sub(r"[\s-]+", "-", text) for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            place = (page.parent / path).resolve() if path else page
            assert place.exists(), f"{page}: {target}"
            assert not anchor or anchor in heading_ids(place), f"{page}: {target}"


def public_names(module):
    """Return what a module says is public; of one that does not say, its own classes and functions."""
    own = (name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__)
    return getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]


@pytest.mark.parametrize(
    "module",
    [
        "hebbcore",
        "hebbcore.bridges.jax",
        "hebbcore.bridges.torch",
        "hebbcore.classify",
        "hebbcore.evaluation",
        "hebbcore.estimators",
        "hebbcore.export",
        "hebbcore.labelling",
        "hebbcore.plots",
        "loaders",
    ],
)
def test_every_public_name_is_in_the_reference(module):
    text = "".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.md"))
    for name in public_names(importlib.import_module(module)):
        assert re.search(rf"^::: {module}\.{name}$|#{module}\.{name} }}$", text, re.MULTILINE), f"{module}.{name}"


def test_the_reference_names_what_there_is():
    for page in (DOCS / "api").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), f"{page}: {name}"


def documented():
    """Return what the reference shows, by name: functions, classes, and the public functions in these."""
    found = {}
    for page in (DOCS / "api").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE):
            module, _, attribute = name.rpartition(".")
            thing = getattr(importlib.import_module(module), attribute)
            if callable(thing):
                found[name] = thing
                methods = inspect.getmembers(thing, inspect.isfunction) if inspect.isclass(thing) else ()
                own = [(key, method) for key, method in methods if key[0] != "_" and "sklearn" not in method.__module__]
                found |= {f"{name}.{key}": method for key, method in own}
    return found


def test_parameters_that_share_an_entry_share_their_default():
    # The site gives each of them the default of the first
    for name, thing in documented().items():
        entries = re.findall(r"^ *(\w+(?:, \w+)+) : ", thing.__doc__ or "", re.MULTILINE)
        parameters = inspect.signature(thing).parameters if entries else {}
        for entry in entries:
            defaults = {repr(parameters[each].default) for each in entry.split(", ") if each in parameters}
            assert len(defaults) < 2, f"{name}: {entry}"


def test_docstrings_hold_no_markup_by_chance():
    # Outside backticks the site drops <word> as a tag, and prints __word__ in bold
    for name, thing in documented().items():
        text = re.sub("`[^`]*`", "", thing.__doc__ or "")
        assert not re.search(r"<[A-Za-z][^>\n]*>|(?<!\w)__\w+__", text), name


def test_every_key_of_the_configuration_is_told():
    text = (DOCS / "reference" / "configuration.md").read_text("utf-8")
    prefixes = {Config: "", Data: "data.", Architecture: "network.", Training: ""}
    names = {
        prefix + field.name
        for kind, prefix in prefixes.items()
        for field in dataclasses.fields(kind)
        if field.name not in ("data", "network", "training") and (kind, field.name) != (Training, "seed")
    }
    assert [name for name in sorted(names) if f"`{name}`" not in text and f"[{name}]]`" not in text] == []


def test_the_defaults_of_a_training_are_told():
    section = (DOCS / "reference" / "configuration.md").read_text("utf-8").split("## `[training]`")[1]
    told = {}
    for keys, defaults in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", section, re.MULTILINE):
        values = [None if value == "none" else json.loads(value.strip("`")) for value in defaults.split(", ")]
        told |= zip(re.findall(r"`(\w+)`", keys), values, strict=True)
    assert told.pop("learning_rate") == LEARNING_RATE
    fields = {field.name: field.default for field in dataclasses.fields(Training)}
    assert told == {name: value for name, value in fields.items() if name not in ("seed", "learning_rate")}


def test_every_kind_of_layer_and_rule_is_told():
    text = (DOCS / "reference" / "configuration.md").read_text("utf-8")
    assert [kind for kind in hebbcore.LAYERS if not re.search(rf"\b{kind}\b", text)] == []
    table = (DOCS / "explanation" / "rules.md").read_text("utf-8")
    assert [rule.__name__ for rule in hebbcore.RULES.values() if f"| `{rule.__name__}(" not in table] == []


def test_the_citation_is_of_this_version():
    assert f"\nversion: {hebbcore.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_pages_that_the_code_names_exist():
    places = ("hebbcore", "loaders", "examples", "benchmarks", "tests")
    files = [path for place in places for path in (ROOT / place).rglob("*") if path.suffix in (".py", ".toml")]
    named = {name for file in files for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text("utf-8"))}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_architecture_shows_every_folder():
    text = (DOCS / "architecture.md").read_text("utf-8")
    folders = {path.parent.name for name in ("hebbcore", "loaders") for path in (ROOT / name).rglob("__init__.py")}
    assert [folder for folder in sorted(folders) if f"{folder}/" not in text] == []
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    names = {
        name for line in shown.splitlines() for name in re.findall(r"[\w.]+/?", re.split(r"\s{2,}", line.strip())[0])
    }
    files = [path for top in ("hebbcore", "loaders", "tests") for path in (ROOT / top).rglob("*")]
    there = {path.stem if path.is_file() else f"{path.name}/" for path in [*files, *ROOT.iterdir()]}
    assert [name for name in sorted(names) if name.removesuffix(".py") not in there] == []
