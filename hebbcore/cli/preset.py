"""`hebbcore preset`: the presets, as configurations to edit and train."""

import argparse
import dataclasses
import json
import re
from typing import Any

from hebbcore.cli.options import add_import, add_set
from hebbcore.graph import Graph
from hebbcore.layers import LAYERS, Branches, Learner
from hebbcore.presets import PRESETS, preset_layers
from hebbcore.runs.config import Config, changed_config
from hebbcore.runs.imports import import_modules
from hebbcore.training.settings import LEARNING_RATE

_PATH = "images.h5"  # the user puts another one in its place


def add_preset(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `preset` command to a command line."""
    command = commands.add_parser(
        "preset",
        description="Print a preset as a configuration (TOML), layer by layer, to edit and train: hebbcore preset "
        "NAME > net.toml. Without a name, list the presets.",
    )
    command.add_argument("name", nargs="?", help="name of a network, such as softhebb-cifar")
    add_set(command)
    add_import(command)
    command.set_defaults(run=_preset)


def _preset(options: argparse.Namespace) -> int:
    if options.name is None:
        if options.changes:
            raise ValueError("preset: --set changes a network; name one.")
        import_modules(options.imports)
        _list()
        return 0
    table = {"data": {"path": _PATH}, "network": {"preset": options.name}}
    config = changed_config(table, options.changes, options.imports)
    config.check()
    print(_toml(config), end="")
    return 0


def _list() -> None:
    for name in PRESETS:
        layers, shape = preset_layers(name)
        learners = [layer for layer in Graph(layers).layers if isinstance(layer, Learner)]
        rules = ", ".join(dict.fromkeys(type(layer.rule).__name__ for layer in learners))
        print(f"{name:<20}{' × '.join(map(str, shape)):<16}{len(learners)} layers that learn by {rules}")


def _toml(config: Config) -> str:
    """Return a preset's configuration as TOML that gives its layers one by one."""
    network, training = config.network, config.training
    shape = network.image_shape or preset_layers(network.preset or "")[1]
    always = ["epochs", "batch_size"]
    if any(layer.learning_rate is None for layer in config.learners()):
        always = [*always, "learning_rate"]
        training = dataclasses.replace(training, learning_rate=training.learning_rate or LEARNING_RATE)
    lines = [
        f"# hebbcore preset {network.preset}; edit it, then",
        "#   hebbcore train FILE --out runs/a --set data.path=…",
        *_fields(config, ["seed"], ["data", "network", "training"]),
        "", "[data]",
        f"path = {_value(config.data.path)} # a folder of shards, or an HDF5 file with train/images",
        *_fields(config.data, [], ["path"]),
        "", "[network]", f"image_shape = {_value(shape)}",
    ]  # fmt: skip
    for table in config.layer_tables():
        lines += ["", "[[network.layers]]", *_layer(table)]
    lines += ["", "[training]", *_fields(training, always, ["seed"])]
    return "\n".join(lines) + "\n"


def _fields(part: Any, always: list[str], never: list[str]) -> list[str]:
    """Return the lines of a dataclass: fields that do not have their default, and those that always stand there."""
    values = {field.name: (getattr(part, field.name), _default(field)) for field in dataclasses.fields(part)}
    return [
        f"{name} = {_value(value)}"
        for name, (value, default) in values.items()
        if name not in never and (name in always or value != default)
    ]


def _layer(table: dict[str, Any]) -> list[str]:
    """Return the lines of a layer: its name, its rule, and parameters that do not have their default."""
    fields = [field for field in dataclasses.fields(LAYERS[table["type"]]) if field.init]  # type: ignore[arg-type]
    lines = [f"{key} = {_value(table[key])}" for key in ("type", "name")]
    for field in fields:
        if field.name == "branches" and LAYERS[table["type"]] is Branches:
            lines.append(f"branches = {_branches(table['branches'])}")
            continue
        default = _default(field)
        value = table.get(field.name, default)  # layer_table leaves out what came later and is not used
        if field.name == "rule" or (field.name != "name" and value not in (default, [default, default])):
            lines.append(f"{field.name} = {_value(value)}")
    return lines


def _branches(branches: list[list[dict[str, Any]]]) -> str:
    """Return tables of branches as TOML, a layer a line."""
    lists = ("".join("    {" + ", ".join(_layer(table)) + "},\n" for table in branch) for branch in branches)
    return "[\n" + "".join(f"  [\n{tables}  ],\n" for tables in lists) + "]"


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _value(value: Any) -> str:
    """Return a value as TOML, which writes numbers and truths as Python and JSON do, and has no word for None."""
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()  # True; nan and inf are lower already


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _value(key)
