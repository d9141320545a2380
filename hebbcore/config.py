"""The configuration of a training run: TOML (or JSON) into checked dataclasses."""

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebbcore import backend, checks, gemm, tables
from hebbcore.files import parse_json, parse_toml
from hebbcore.layers import WORKSPACE
from hebbcore.network import Network
from hebbcore.presets import PREPROCESS, PRESETS, preset
from hebbcore.settings import LEARNING_RATE, Training


@dataclass(frozen=True)
class Data:
    """Where the images are and how they are cut.

    path: a folder of shards, or an HDF5 file with <split>/images. image_size: pixels, cut from the
    centre; crop: "center" or "random" (resized and mirrored at random). subset: the first n of a shuffle, or a
    fraction of each class. The last three are for shards.
    """

    path: str
    split: str = "train"
    image_size: int | None = None
    crop: str = "center"
    subset: int | float | None = None

    def __post_init__(self) -> None:
        checks.text("Data", "path", self.path)
        checks.text("Data", "split", self.split)
        checks.choice("Data", "crop", self.crop, ("center", "random"))
        if self.image_size is not None:
            checks.integer("Data", "image_size", self.image_size, 1)
        elif self.crop == "random":
            raise ValueError('Data: crop "random" needs image_size, the size of what is cut.')
        if isinstance(self.subset, float) and not 0 < self.subset <= 1:
            raise ValueError(f"Data: subset must be a number of images, or a fraction in 0…1, got {self.subset}.")
        if self.subset is not None and not isinstance(self.subset, float):
            checks.integer("Data", "subset", self.subset, 1)


@dataclass(frozen=True)
class Architecture:
    """A preset, perhaps with rule and preprocess (see hebbcore.preset), or layers.

    image_shape: None is the preset's, or that of the data.
    """

    preset: str | None = None
    rule: Any = None
    preprocess: str = "none"
    layers: list[Any] | None = None
    image_shape: list[int] | None = None

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.layers is None):
            raise ValueError("Architecture: give preset or layers, one of the two.")
        if self.preset is not None:
            checks.choice("Architecture", "preset", self.preset, PRESETS)
        if self.rule is not None and self.preset is None:
            raise ValueError("Architecture: rule goes with a preset; layers have rules of their own.")
        checks.choice("Architecture", "preprocess", self.preprocess, PREPROCESS)
        if self.preprocess != "none" and self.preset is None:
            raise ValueError(
                "Architecture: preprocess goes with a preset; put a BatchNorm or Whiten before the layers."
            )
        if self.layers is not None and not isinstance(self.layers, list):
            raise TypeError(f"Architecture: layers must be tables, [[network.layers]], got {self.layers!r}.")
        if self.image_shape is not None:
            if not isinstance(self.image_shape, list | tuple) or len(self.image_shape) not in (1, 3):
                raise ValueError(
                    f"Architecture: image_shape must be [height, width, channels], got {self.image_shape!r}."
                )
            for side in self.image_shape:
                checks.integer("Architecture", "image_shape", side, 1)


@dataclass(frozen=True)
class Config:
    """A whole run: data, network, training, and where it computes."""

    data: Data
    network: Architecture
    training: Training = field(default_factory=Training)
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    workspace: int | str = WORKSPACE

    def __post_init__(self) -> None:
        checks.integer("Config", "seed", self.seed, 0)
        checks.choice("Config", "device", self.device, ("auto", "cpu", "cuda"))
        checks.choice("Config", "precision", self.precision, gemm.PRECISIONS)
        checks.byte_size("Config", "workspace", self.workspace)

    def make_network(self) -> Network:
        """Return the network with fresh weights; without an image_shape not built yet. Raises ValueError."""
        given = self.network
        options: dict[str, Any] = {
            "seed": self.seed, "device": backend.resolve("config", self.device), "precision": self.precision,
            "workspace": self.workspace,
        }  # fmt: skip
        rule = None if given.rule is None else tables.rule_of(given.rule, "network.rule")
        try:
            if given.preset is not None:
                return preset(
                    given.preset, rule=rule, preprocess=given.preprocess, image_shape=given.image_shape, **options
                )
            assert given.layers is not None
            layers = [tables.layer_of(table, f"network.layers[{i}]") for i, table in enumerate(given.layers)]
            return Network(layers, given.image_shape, **options)
        except (TypeError, ValueError) as error:
            text = str(error)
            if not text.startswith("config:"):
                text = f"config: network: {text.removeprefix('Network: ').removeprefix('preset: ')}"
            raise type(error)(text) from None

    def table(self) -> dict[str, Any]:
        """Return the effective configuration, defaults and all, as JSON types."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        table["training"].pop("seed")
        return table


def read_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Return the configuration of a TOML file, or of a JSON file such as a run's config.json.

    changes: "key.path=value", the value written as in TOML, to be used in place of the file's.

    Raises ValueError or TypeError naming the file or the key's path, OSError if the file cannot be read.
    """
    try:
        text = path.read_text("utf-8")
        table = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ValueError(
            f"config: {path} is not valid {kind}: {error}; give a TOML file, or the config.json of a run."
        ) from None
    if not isinstance(table, dict):
        raise TypeError(f"config: {path} must hold a table, got {table!r}.")
    if path.suffix == ".json":
        _forget_old_default(table.get("training"))
    for change in changes:
        _change(table, change)
    return config_of(table)


def _forget_old_default(training: Any) -> None:
    """Take the default learning rate out of a table of training that an older version wrote with all defaults."""
    if isinstance(training, dict) and "rate_factor" not in training and training.get("learning_rate") == LEARNING_RATE:
        training["learning_rate"] = None


def config_of(table: Any) -> Config:
    """Return the configuration of a table. Raises ValueError or TypeError naming the key's path."""
    if not isinstance(table, dict):
        raise TypeError(f"config: it must be a table, got {table!r}.")
    parts = dict(table)
    if "seed" in parts:
        checks.integer("config", "seed", parts["seed"], 0)  # before it becomes one of training's
    for name, kind in (("data", Data), ("network", Architecture), ("training", Training)):
        if name in parts:
            part = parts[name]
            if name == "training" and isinstance(part, dict):
                if "seed" in part:
                    raise ValueError("config: training.seed is unknown; seed stands at the top, for the whole run.")
                part = {**part, **({"seed": parts["seed"]} if "seed" in parts else {})}
            parts[name] = tables.build(kind, part, name)
    if "training" not in parts and "seed" in parts:
        parts["training"] = tables.build(Training, {"seed": parts["seed"]}, "")
    config = tables.build(Config, parts, "")
    given = config.network
    if given.rule is not None:
        tables.rule_of(given.rule, "network.rule")
    for i, layer in enumerate(given.layers or ()):
        tables.layer_of(layer, f"network.layers[{i}]")
    return config


def _change(table: dict[str, Any], change: str) -> None:
    """Set "key.path=value" in the table."""
    key, equals, value = change.partition("=")
    names = key.strip().split(".")
    try:
        parsed = parse_toml(f"value = {value}")["value"] if equals else None
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a word needs no quotes here
    if not equals or not all(names):
        raise ValueError(f"config: a change must be key.path=value, got {change!r}.")
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"config: {key.strip()} cannot be set: {name} is no table.")
    table[names[-1]] = parsed
