"""The configuration of a training run: TOML (or JSON) into checked dataclasses."""

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebbcore import checks, serialize
from hebbcore.engine import devices, gemm
from hebbcore.files import parse_json, parse_toml
from hebbcore.layers import WORKSPACE, Layer, Learner
from hebbcore.network import Network
from hebbcore.presets import PREPROCESS, PRESETS, Built, Rules, network_of, preset_layers, with_rules
from hebbcore.rules import Rule
from hebbcore.runs.imports import import_modules
from hebbcore.training.settings import LEARNING_RATE, Training, without_effect


@dataclass(frozen=True)
class Data:
    """Where the images are and how they are cut.

    path: a folder of shards, or an HDF5 file with <split>/images. image_size: pixels, cut from the
    centre; crop: "center" or "random" (resized and mirrored at random); both for shards. subset: the first n of a
    shuffle, or a fraction of each class.
    """

    path: str
    split: str = "train"
    image_size: int | None = None
    crop: str = "center"
    subset: int | float | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            raise checks.wrong(
                ValueError, "Data", "path",
                "is null: the run was trained from Python, on images whose place is not known; give it, --set "
                "data.path=….",
            )  # fmt: skip
        checks.text("Data", "path", self.path)
        checks.text("Data", "split", self.split)
        checks.choice("Data", "crop", self.crop, ("center", "random"))
        if self.image_size is not None:
            checks.integer("Data", "image_size", self.image_size, 1)
        elif self.crop == "random":
            raise checks.wrong(ValueError, "Data", "crop", '"random" needs image_size, the size of what is cut.')
        if isinstance(self.subset, float) and not 0 < self.subset <= 1:
            problem = f"must be a number of images, or a fraction in 0…1, got {self.subset}."
            raise checks.wrong(ValueError, "Data", "subset", problem)
        if self.subset is not None and not isinstance(self.subset, float):
            checks.integer("Data", "subset", self.subset, 1)


@dataclass(frozen=True)
class Architecture:
    """A preset, perhaps with rule and preprocess (see hebbcore.preset) and changes to its layers, or layers.

    rule: of all layers, or rules by layer name. layers: tables, one a layer; or with a preset, tables of what is to be
    changed, by layer name. image_shape: None is the preset's, or that of the data.
    """

    preset: str | None = None
    rule: Any = None
    preprocess: str = "none"
    layers: list[Any] | dict[str, Any] | None = None
    image_shape: list[int] | None = None

    def __post_init__(self) -> None:
        changes = isinstance(self.layers, dict)
        if self.preset is None and changes:
            raise _wrong("layers", "by name are changes to those of a preset; give preset, or [[network.layers]].")
        if (self.preset is None) == (self.layers is None or changes):
            raise _wrong(None, "give preset or layers, one of the two.")
        if self.preset is not None:
            checks.choice("Architecture", "preset", self.preset, PRESETS)
        if self.rule is not None and self.preset is None:
            raise _wrong("rule", "goes with a preset; layers have rules of their own.")
        checks.choice("Architecture", "preprocess", self.preprocess, PREPROCESS)
        if self.preprocess != "none" and self.preset is None:
            raise _wrong("preprocess", "goes with a preset; put a BatchNorm or Whiten before the layers.")
        if self.layers is not None and not isinstance(self.layers, list | dict):
            raise checks.wrong(
                TypeError, "Architecture", "layers", f"must be tables, [[network.layers]], got {self.layers!r}."
            )
        if self.image_shape is not None:
            if not isinstance(self.image_shape, list | tuple) or len(self.image_shape) not in (1, 3):
                raise _wrong("image_shape", f"must be [height, width, channels], got {self.image_shape!r}.")
            for side in self.image_shape:
                checks.integer("Architecture", "image_shape", side, 1)


def _wrong(argument: str | None, problem: str) -> ValueError:
    return checks.wrong(ValueError, "Architecture", argument, problem)


@dataclass(frozen=True)
class Config:
    """A whole run: data, network, training, and where it computes. imports: see import_modules."""

    data: Data
    network: Architecture
    training: Training = field(default_factory=Training)
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    workspace: int | str = WORKSPACE
    imports: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        checks.integer("Config", "seed", self.seed, 0)
        checks.choice("Config", "device", self.device, ("auto", "cpu", "cuda"))
        checks.choice("Config", "precision", self.precision, gemm.PRECISIONS)
        checks.byte_size("Config", "workspace", self.workspace)
        if not isinstance(self.imports, list):
            raise checks.wrong(TypeError, "Config", "imports", f"must be a list of modules, got {self.imports!r}.")
        for name in self.imports:
            checks.text("Config", "imports", name)

    def make_network(self) -> Network:
        """Return the network with fresh weights; without an image_shape not built yet. Raises ValueError."""
        given = self.network
        options: dict[str, Any] = {
            "seed": self.seed, "device": devices.resolve("config", self.device), "precision": self.precision,
            "workspace": self.workspace,
        }  # fmt: skip
        layers, shape = self._layers()
        with _named():
            if given.preset is not None:
                assert shape is not None
                return network_of(given.preset, layers, shape, given.image_shape, **options)
            return Network(layers, given.image_shape, **options)

    def check(self) -> None:
        """Raise ValueError or TypeError for layers that cannot be made, and for settings that would change nothing."""
        given = self.network
        network = self._unbuilt()
        changed = given.layers if isinstance(given.layers, dict) else {}
        if given.rule is not None and all("rule" in changed.get(name, {}) for name in network.learners):
            raise ValueError("config: network.rule changes nothing: network.layers gives every layer its own.")
        idle = without_effect(self.training, network)
        if idle is not None:
            word = " (on the command line: --set training.learning_rate=none)" * idle.startswith("learning_rate")
            raise ValueError(f"config: training.{idle}{word}")

    def layer_tables(self) -> list[dict[str, Any]]:
        """Return the table of every layer, whole and named."""
        return [serialize.layer_table("config", layer) for layer in self._unbuilt().layers]

    def learners(self) -> list[Learner]:
        """Return the layers that learn, without weights."""
        return list(self._unbuilt().learners.values())

    def _unbuilt(self) -> Network:
        layers, _ = self._layers()
        with _named():
            return Network(layers, device="cpu")

    def _layers(self) -> tuple[list[Layer], tuple[int, ...] | None]:
        """Return the layers without weights, and the shape of a preset's images."""
        if self.network.preset is not None:
            return _preset_layers(self.network)
        assert isinstance(self.network.layers, list)
        return [serialize.layer_of(table, f"network.layers[{i}]") for i, table in enumerate(self.network.layers)], None

    def table(self) -> dict[str, Any]:
        """Return the effective configuration, defaults and all, as JSON types."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        table["training"].pop("seed")
        return table


@contextmanager
def _named() -> Iterator[None]:
    """Raise what a network or a preset says of its layers as an error of the configuration's network."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise checks.again(error, f"config: network: {checks.about(error).text}") from None


def _preset_layers(given: Architecture) -> Built:
    """Return the layers of a preset with the changes to them, and the shape of its images."""
    assert given.preset is not None
    layers, shape = preset_layers(given.preset, None, given.preprocess)
    if given.rule is not None:
        rules = _rules(given.rule, [layer.name for layer in layers if isinstance(layer, Learner)])
        with _named():
            layers = with_rules(layers, rules)
    names = [layer.name for layer in layers]
    assert given.layers is None or isinstance(given.layers, dict)
    for name, change in (given.layers or {}).items():
        if name not in names:
            raise ValueError(f"config: network.layers.{name} is unknown.{serialize.hint(name, names)}")
        layers = _changed(layers, names.index(name), change)
    return layers, shape


def _rules(rule: Any, learners: list[str]) -> Rules:
    """Return a rule, or rules by layer name, of what a configuration says."""
    if not isinstance(rule, Mapping) or "name" in rule:
        return serialize.rule_of(rule, "network.rule")
    for key in rule:
        if key not in learners:
            raise ValueError(
                f"config: network.rule.{key} is unknown; a rule is its name, a table with name = …, or rules by layer "
                f"name.{serialize.hint(str(key), learners)}"
            )
    return {key: serialize.rule_of(value, f"network.rule.{key}") for key, value in rule.items()}


def _changed(layers: list[Layer], place: int, change: Any) -> list[Layer]:
    """Return a preset's layers with changes to one of them. A rule without a name is of new parameters only."""
    layer, path = layers[place], f"network.layers.{layers[place].name}"
    if not isinstance(change, Mapping):
        raise TypeError(f"config: {path} must be a table of what is to be changed, got {change!r}.")
    for key in ("type", "name"):
        if key in change:
            raise ValueError(f"config: {path}.{key} cannot be changed; print the preset (hebbcore preset) and edit it.")
    rest = dict(change)
    if "rule" in rest and isinstance(layer, Learner):
        rule = rest.pop("rule")
        if isinstance(rule, Mapping) and "name" not in rule:
            assert isinstance(layer.rule, Rule)
            rule = {**serialize.rule_table("config", layer.rule), **rule}
        rules = {layer.name: serialize.rule_of(rule, f"{path}.rule")}
        with _named():
            layers = with_rules(layers, rules)
        layer = layers[place]
    changed = serialize.layer_of({**serialize.layer_table("config", layer), **rest}, path)
    return [*layers[:place], changed, *layers[place + 1 :]]


def read_config(path: Path, changes: Sequence[str] = (), imports: Sequence[str] = ()) -> Config:
    """Return the configuration of a TOML file, or of a JSON file such as a run's config.json.

    changes: "key.path=value", the value written as in TOML, to be used in place of the file's; a layer is named, or
    counted from 0. imports: added to the file's. The modules are imported.

    Raises ValueError or TypeError naming the file or the key's path, OSError if the file cannot be read, ImportError.
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
    return changed_config(table, changes, imports)


def changed_config(table: dict[str, Any], changes: Sequence[str], imports: Sequence[str]) -> Config:
    """Return the configuration of a table, which is changed; see read_config."""
    for names, value in (parsed := [parse_change(change) for change in changes]):
        if not _is_of_a_layer(names):
            _change(table, names, value)
    if imports:
        named = table.get("imports", [])
        table["imports"] = [*named, *(x for x in imports if x not in named)] if isinstance(named, list) else named
    if isinstance(table.get("imports"), list):
        import_modules(name for name in table["imports"] if isinstance(name, str))
    for names, value in parsed:
        if _is_of_a_layer(names):  # now their names are known
            _change(table, names, value)
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
            parts[name] = serialize.build(kind, part, name)
    if "training" not in parts and "seed" in parts:
        parts["training"] = serialize.build(Training, {"seed": parts["seed"]}, "")
    config = serialize.build(Config, parts, "")
    config.layer_tables()  # what is wrong with them is said here
    return config


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


def _is_of_a_layer(names: list[str]) -> bool:
    return names[:2] == ["network", "layers"] and len(names) > 2


def _change(table: dict[str, Any], names: list[str], value: Any) -> None:
    """Set the value of a key, whose parts are names, in the table."""
    at: Any = table
    for i, name in enumerate(names):
        key: Any = _layer_key(table["network"], name, names) if i == 2 and _is_of_a_layer(names) else name
        if i == len(names) - 1:
            at[key] = value
            return
        if isinstance(at, dict) and at.get(key) is None:
            at[key] = {}
        inner = at[key]
        if (key == "rule" or names[:i] == ["network", "rule"]) and isinstance(inner, str):
            inner = at[key] = {"name": inner}
        if not isinstance(inner, dict) and not (isinstance(inner, list) and _is_of_a_layer(names) and i == 1):
            raise ValueError(f"config: {'.'.join(names)} cannot be set: {name} is no table.")
        at = inner


def _layer_key(network: dict[str, Any], name: str, path: list[str]) -> int | str:
    """Return the key of a layer, named or counted from 0, in network.layers: its place in a list, else its name."""
    layers, preset = network["layers"], network.get("preset")
    listed = isinstance(layers, list)
    if listed and name.isdigit():
        names = [""] * len(layers)
    elif listed:
        made = [serialize.layer_of(table, f"network.layers[{i}]") for i, table in enumerate(layers)]
        with _named():
            names = Network(made, device="cpu").names
    elif name.isdigit() and preset is not None:
        with _named():
            names = [layer.name for layer in preset_layers(preset, None, network.get("preprocess", "none"))[0]]
    else:
        return name
    if name.isdigit():
        if int(name) >= len(names):
            raise ValueError(f"config: {'.'.join(path)} is unknown: there are {len(names)} layers, counted from 0.")
        return int(name) if listed else names[int(name)]
    if name not in names:
        raise ValueError(f"config: {'.'.join(path)} is unknown.{serialize.hint(name, names)}")
    return names.index(name)
