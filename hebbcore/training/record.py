"""The configuration of a training from Python, kept with its run as the command line keeps its own."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from hebbcore import checkpoint, streams
from hebbcore.files import parse_json, write_text
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.serialize import CONFIG
from hebbcore.training.batches import Batches, IterableBatches
from hebbcore.training.settings import Training, may_change


def is_from_python(path: Path) -> bool:
    """Return True for a configuration of a training from Python, whose images have no path."""
    return _is_from_python(_read(path))


def is_of_a_run(path: Path) -> bool:
    """Return True for a configuration, of the command line or from Python, and not for some other file of its name."""
    table = _read(path)
    return isinstance(table, dict) and all(isinstance(table.get(key), dict) for key in ("data", "network", "training"))


def _read(path: Path) -> Any:
    """Return what a file says; None if it is no JSON."""
    try:
        return parse_json(path.read_text("utf-8-sig"))
    except ValueError:
        return None


def _is_from_python(table: Any) -> bool:
    return isinstance(table, dict) and isinstance(table.get("data"), dict) and table["data"].get("path", "") is None


def keep_config(run: Path, network: Network, batches: Batches, training: Training) -> None:
    """Write config.json into a run that has none, or has that of another call from Python.

    In a configuration of the command line only the settings that may change in a resume are brought up to date. One
    that cannot be read is left as it is: `train` says what is wrong with it.
    """
    path = run / CONFIG
    table = _table(network, batches, training)
    stored = _read(path) if path.exists() else None
    if path.exists() and not _is_from_python(stored):
        if not isinstance(stored, dict) or not isinstance(stored.get("training"), dict):
            return
        free = may_change(dataclasses.asdict(training))
        changed = {key: table["training"][key] for key in free if key in stored["training"]}
        table = {**stored, "training": {**stored["training"], **changed}}
    if table != stored:
        write_text(path, json.dumps(table, indent=2) + "\n")


def _table(network: Network, batches: Batches, training: Training) -> dict[str, Any]:
    """Return what is known of the configuration, as JSON types.

    The seed is the network's; one of an array's order, or of samples, that differs is beside the settings, where a
    configuration has none.
    """
    described = checkpoint.describe("fit", network)
    settings = dataclasses.asdict(training)
    source = batches.source if isinstance(batches, IterableBatches) else None
    settings |= streams.batching_of(source)
    if not (training.shuffle or training.sample) or settings["seed"] == network.seed:  # else it draws nothing
        del settings["seed"]
    site = network.site
    table = {
        "data": {"path": None},
        "network": {"layers": described["layers"], "image_shape": described["image_shape"]},
        "training": settings,
        "seed": network.seed,
        "device": site.device,
        "precision": site.precision,
        "workspace": site.workspace,
        "imports": _modules(network),
    }
    plain: dict[str, Any] = json.loads(checkpoint.as_json(table))
    return plain


def _modules(network: Network) -> list[str]:
    """Return the modules of rules and layers of the user's own; what a script defines itself cannot be imported."""
    things = [*network.layers, *(layer.rule for layer in network.layers if isinstance(layer, Learner))]
    modules = dict.fromkeys(type(thing).__module__ for thing in things)
    return [name for name in modules if name.split(".")[0] != "hebbcore" and name != "__main__"]
