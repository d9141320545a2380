"""Changes of a configuration from the command line: "key.path=value"."""

import re
import tomllib
from typing import Any

from hebbcore import serialize
from hebbcore.files import parse_toml
from hebbcore.layers import Layer
from hebbcore.layers.names import name_layers
from hebbcore.presets import preset_layers
from hebbcore.runs.architecture import naming_network


def parse_change(change: str) -> tuple[list[str], Any]:
    """Return the parts of the key and the value of "key.path=value". Raises ValueError if it is none."""
    key, equals, value = change.partition("=")
    names = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    if not equals or not all(names):
        raise ValueError(f"config: a change must be key.path=value, got {change!r}.")
    return names, parse_value(value)


def parse_value(text: str) -> Any:
    """Return a value written as in TOML; a word needs no quotes."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def is_of_a_layer(names: list[str]) -> bool:
    """Return True for the parts of a key in the table of a layer, whose name may be known after imports only."""
    return names[:2] == ["network", "layers"] and len(names) > 2


def apply_change(table: dict[str, Any], names: list[str], value: Any) -> None:
    """Set the value of a key, whose parts are names, in the table."""
    at: Any = table
    for i, name in enumerate(names):
        key: Any = name
        if i == 2 and is_of_a_layer(names):
            at, key = _layer_place(table["network"], name, names)
        elif isinstance(at, list):  # of branches, or of a branch's layers
            key = _position(at, name, names)
        if i == len(names) - 1:
            at[key] = value
            return
        if isinstance(at, dict) and at.get(key) is None:
            at[key] = {}
        inner = at[key]
        if (key == "rule" or names[:i] == ["network", "rule"]) and isinstance(inner, str):
            inner = at[key] = {"name": inner}
        if not isinstance(inner, dict | list if is_of_a_layer(names) else dict):
            raise ValueError(f"config: {'.'.join(names)} cannot be set: {name} is no table.")
        at = inner


def _position(listed: list[Any], name: str, path: list[str]) -> int:
    """Return the place in a list that a part of a key counts. Raises ValueError if it does not."""
    if not name.isdigit() or int(name) >= len(listed):
        raise ValueError(
            f"config: {'.'.join(path)} is unknown: at {name} stands a list of {len(listed)}, counted from 0."
        )
    return int(name)


def _layer_place(network: dict[str, Any], name: str, path: list[str]) -> tuple[Any, int | str]:
    """Return where the table of a layer, named or counted from 0, stands: in a list, perhaps of a branch, or by name.

    Layers inside of branches are named, and not counted.
    """
    layers, preset = network["layers"], network.get("preset")
    listed = isinstance(layers, list)
    if listed and name.isdigit():
        names = [""] * len(layers)
    elif listed:
        names = names_in(layers)
    elif name.isdigit() and preset is not None:
        with naming_network():
            rest = [network.get(key) for key in ("image_shape", "units", "classes")]
            names = [layer.name for layer in preset_layers(preset, None, network.get("preprocess", "none"), *rest)[0]]
    else:
        return layers, name
    if name.isdigit():
        if int(name) >= len(names):
            raise ValueError(f"config: {'.'.join(path)} is unknown: there are {len(names)} layers, counted from 0.")
        return layers, int(name) if listed else names[int(name)]
    if name not in names:
        raise ValueError(f"config: {'.'.join(path)} is unknown.{serialize.hint(name, names)}")
    return serialize.places_of(layers)[names.index(name)]


def names_in(tables: list[Any]) -> list[str]:
    """Return the names that a network gives the layers of these tables, in the order of Network.layers.

    Their parameters are not looked at: of several changes the first may be right only beside the others.
    """
    kinds = serialize.kinds_of(tables, "network.layers")
    layers: list[Layer] = []
    for kind, table in zip(kinds, serialize.flat(tables), strict=True):
        layer = object.__new__(kind)
        layer.name = table.get("name", "")
        layers.append(layer)
    with naming_network():
        return name_layers("Network", layers)
