"""The configuration of a training run: TOML (or JSON) into checked dataclasses."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hebbcore import checks, serialize
from hebbcore.engine import devices, gemm
from hebbcore.files import parse_json, parse_toml
from hebbcore.layers import WORKSPACE, Learner
from hebbcore.network import Network
from hebbcore.presets import network_of, training_of
from hebbcore.runs.architecture import Architecture, naming_network
from hebbcore.runs.changes import apply_change, is_of_a_layer, parse_change
from hebbcore.runs.imports import import_modules
from hebbcore.training.phases import phases_of
from hebbcore.training.settings import LEARNING_RATE, Training, idle_parameter, meant, without_effect
from hebbcore.training.teacher import require_taught, who_needs_labels


@dataclass(frozen=True)
class Data:
    """Where the images are and how they are cut.

    Parameters
    ----------
    path : str
        A folder of shards, or an HDF5 file with SPLIT/images.
    split : str
        The split of an HDF5 file.
    image_size : int or None
        Side of the images in pixels, cut from shards; None takes them as they are.
    crop : str
        "center", or "random": resized and mirrored at random. For shards.
    subset : int, float or None
        The first n images of a shuffle, or a fraction of each class; None takes all.
    labels : int, float or None
        How many of the images keep their label, or which fraction of each class; None: all that have one. For HDF5
        files, where a layer learns from labels.

    Raises
    ------
    ValueError, TypeError
        A value is impossible.
    """

    path: str
    split: str = "train"
    image_size: int | None = None
    crop: str = "center"
    subset: int | float | None = None
    labels: int | float | None = None

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
        for name, share in (("subset", self.subset), ("labels", self.labels)):
            if isinstance(share, float) and not 0 < share <= 1:
                problem = f"must be a number of images, or a fraction in 0…1, got {share}."
                raise checks.wrong(ValueError, "Data", name, problem)
            if share is not None and not isinstance(share, float):
                checks.integer("Data", name, share, 1)


@dataclass(frozen=True)
class Config:
    """A whole run: data, network, training, and where it computes.

    Parameters
    ----------
    data, network, training : Data, Architecture, Training
        The parts of the configuration.
    seed : int
        Draws the weights and the order of the images.
    device, precision, workspace : str, str, int or str
        See Network.
    imports : list of str
        Modules with rules, layers or presets of one's own; see import_modules.

    Raises
    ------
    ValueError, TypeError
        A value is impossible.
    """

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
        checks.choice("Config", "device", self.device, devices.CHOICES)
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
        layers, shape = self.network.make_layers()
        with naming_network():
            if given.preset is not None and not given.layers:
                assert shape is not None
                return network_of(given.preset, layers, shape, given.image_shape, given.units, **options)
            # of changed layers the preset's advice would not be true
            network = Network(layers, given.image_shape or shape, **options)
            network.training = training_of(given.preset or "", given.units)
            return network

    def check(self) -> None:
        """Raise ValueError or TypeError for layers that cannot be made, and for settings that would change nothing."""
        network, s = self._unbuilt(), self.training
        self.network.require_rule_in_use(list(network.learners))
        phases_of("config", network, s.mode, s.epochs, s.statistics_images, ())
        idle = without_effect(s, network)
        if idle is not None:
            key, text = idle
            way = " (on the command line: --set training.learning_rate=none)" if key == "learning_rate" else ""
            raise ValueError(f"config: training.{text}{way}")
        parameter = idle_parameter(network, self.training.mode)
        if parameter is not None:
            name, key, text = parameter
            raise ValueError(f"config: network.layers.{name}.{key}{text}")
        try:
            require_taught(network, self.training.teacher, self.training.classes)
        except ValueError as error:
            raise ValueError(f"config: training.{checks.about(error).text}") from None
        if self.data.labels is not None and not who_needs_labels(network, self.training.teacher):
            raise ValueError(
                "config: data.labels has no effect: no layer learns from labels (of the rule supervised, or named by "
                "training.teacher); leave it out."
            )

    def layer_tables(self) -> list[dict[str, Any]]:
        """Return the table of every layer, whole and named."""
        return [serialize.layer_table("config", layer) for layer in self._unbuilt().stack]

    def whole_network(self) -> dict[str, Any]:
        """Return the tables of all layers and the shape of the images, whatever was left to defaults or a preset."""
        _, shape = self.network.make_layers()
        given = self.network.image_shape or shape
        return {"layers": self.layer_tables(), "image_shape": None if given is None else list(given)}

    def learners(self) -> list[Learner]:
        """Return the layers that learn, without weights."""
        return list(self._unbuilt().learners.values())

    def _unbuilt(self) -> Network:
        layers, _ = self.network.make_layers()
        with naming_network():
            return Network(layers, device="cpu")

    def table(self) -> dict[str, Any]:
        """Return the effective configuration, defaults and all, as JSON types."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        table["training"].pop("seed")
        return table


def read_config(path: Path, changes: Sequence[str] = (), imports: Sequence[str] = ()) -> Config:
    """Return the configuration of a TOML file, or of a JSON file such as a run's config.json.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    changes : sequence of str
        Texts "key.path=value", which replace values of the file. The value is written as in TOML; a layer is named, or
        counted from 0.
    imports : sequence of str
        Modules to import beside those that the file names.

    Raises
    ------
    ValueError, TypeError
        The file or a value is wrong; the message names the file or the path of the key.
    OSError
        The file cannot be read.
    ImportError
        A module cannot be imported.
    """
    try:
        text = path.read_text("utf-8-sig")  # Windows' editors put a mark in front
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
        if not is_of_a_layer(names):
            apply_change(table, names, value)
    if imports:
        listed = table.get("imports", [])
        table["imports"] = [*listed, *(x for x in imports if x not in listed)] if isinstance(listed, list) else listed
    if isinstance(table.get("imports"), list):
        import_modules(name for name in table["imports"] if isinstance(name, str))
    for names, value in parsed:
        if is_of_a_layer(names):  # now their names are known
            apply_change(table, names, value)
    return config_of(table)


def _forget_old_default(training: Any) -> None:
    """Take the default learning rate out of a table of training that an older version wrote with all defaults."""
    if isinstance(training, dict) and "rate_factor" not in training and training.get("learning_rate") == LEARNING_RATE:
        training["learning_rate"] = None


def _of_the_preset(parts: dict[str, Any], mode: Any) -> dict[str, Any]:
    """Return how the preset of a configuration, if it has one, is meant to be trained in a mode."""
    network = parts.get("network")
    return meant(training_of(network.preset or "", network.units), mode) if isinstance(network, Architecture) else {}


def config_of(table: Any) -> Config:
    """Return the configuration of a table. Raises ValueError or TypeError naming the key's path."""
    if not isinstance(table, dict):
        raise TypeError(f"config: it must be a table, got {table!r}.")
    parts = {**table, "training": table.get("training", {})}
    if "seed" in parts:
        checks.integer("config", "seed", parts["seed"], 0)  # before it becomes one of training's
    for name, kind in (("data", Data), ("network", Architecture), ("training", Training)):
        if name in parts:
            part = parts[name]
            if name == "training" and isinstance(part, dict):
                if "seed" in part:
                    raise ValueError("config: training.seed is unknown; seed stands at the top, for the whole run.")
                part = {**_of_the_preset(parts, part.get("mode")), **part}
                part |= {"seed": parts["seed"]} if "seed" in parts else {}
            parts[name] = serialize.build(kind, part, name)
    config = serialize.build(Config, parts, "")
    config.layer_tables()  # what is wrong with them is said here
    return config
