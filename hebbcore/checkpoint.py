"""Files of networks and layers: HDF5 behind a line with its digest, or safetensors; written atomically, no pickles."""

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checks, hdf5, safetensors, serialize
from hebbcore.engine import devices, gemm
from hebbcore.engine.answers import require_counts
from hebbcore.engine.backend import Array
from hebbcore.engine.patches import PADDING_MODES
from hebbcore.engine.pixel_scale import PixelScale
from hebbcore.engine.state import require_state, state_arrays, state_in
from hebbcore.files import parse_json, write_atomically
from hebbcore.layers import WORKSPACE, Branches, HebbianLayer, Layer, Learner
from hebbcore.layers.kept import arrays_for_files, nameable
from hebbcore.network import Network
from hebbcore.ours import is_ours

VERSION = 1  # of the format
FOLDER = "checkpoints"  # of a run
MODEL, MODEL_FOLDER = "model.json", "model"  # of hebbcore classify: a network, a classifier, and the note of both
MODEL_NETWORK = "network.h5"
_CHECKPOINT = re.compile(r"step-\d{10,}\.h5")
_MOST_SIDES = 2**22  # of all images between the layers, in pixels: tables of pooling windows grow with them

# The parameters that hebbcore's layers and rules had from the first, all of which count in digest_of. Later ones count
# where they are not the default; so do those of a user's own class that have metadata={"later": True}.
_FIRST_FIELDS = {
    "activation", "adaptive_power", "anti_hebbian", "cells", "competition", "contrast", "epsilon", "exponent", "k",
    "kernel_size", "kind", "learning_rate", "linear", "modified", "momentum", "name", "p", "padding", "padding_mode",
    "power", "rank", "rule", "strength", "stride", "temperature", "threshold", "units", "window",
}  # fmt: skip


def save(path: str | os.PathLike[str], model: Network | HebbianLayer) -> None:
    """Write a network or a layer to a file, which load reads.

    Parameters
    ----------
    path : path
        The file. One that is there is replaced when the new one is complete. A name that ends in .safetensors makes
        it a file of that format, for other programs; else it is HDF5.
    model : Network or HebbianLayer
        Its parameters and arrays are written; a network's image_shape, seed and precision too.

    Raises
    ------
    TypeError
        If model is something else.
    ValueError
        If the network has no weights yet, or a rule is not in RULES, or a layer not in LAYERS.
    OSError
        If the file cannot be written; what was there stays.
    """
    if not isinstance(model, Network | HebbianLayer):
        raise TypeError(f"save: model must be a Network or a HebbianLayer, got {type(model).__name__}.")
    with model.lock if isinstance(model, Network) else contextlib.nullcontext():  # not between the halves of a step
        header, arrays, file = describe("save", model), arrays_of(model), Path(path)
        if file.suffix == safetensors.SUFFIX:
            host = {key: devices.to_device(array, "cpu") for key, array in arrays.items()}
            safetensors.write(file, as_json(header), host)
        else:
            write(file, header, arrays)


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    workspace: int | str = WORKSPACE,
    previous: bool = False,
) -> Network | HebbianLayer:
    """Return the network or layer of a file that save wrote, or the latest network of a run's folder.

    Parameters
    ----------
    path, device, workspace, previous
        As for hebbcore.load, which reads models of a work too.

    Returns
    -------
    Network or HebbianLayer
        With the arrays of the file.
    """
    device = devices.resolve("load", device)
    file = find("load", Path(path), previous)
    header, arrays = (safetensors.read if file.suffix == safetensors.SUFFIX else read)("load", file)
    if header.get("kind") == "layer" and workspace != WORKSPACE:
        raise ValueError(f"load: workspace is of networks; {file} is a layer, whose transform takes it: leave it out.")
    with naming("load", file, "does not hold a network or layer of this version"):
        serialize.require_known("load", header, file)
        return restore("load", header, arrays, device, workspace)


@contextlib.contextmanager
def naming(function: str, path: Path, what: str) -> Iterator[None]:
    """Turn what is wrong with the contents of a file into a ValueError("function: path what: …"), unless it is one."""
    prefix = f"{function}: {path} "
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{prefix}{what}: {error} is missing.") from None
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, ValueError) and str(error).startswith(prefix):
            raise
        raise ValueError(f"{prefix}{what}: {error}") from None


def find(function: str, path: Path, previous: bool = False) -> Path:
    """Return the path if it is a file, the latest checkpoint of a run if it is a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the latest is damaged; with previous, if all are, and for a file.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{function}: {path} does not exist.")
        if previous:
            raise ValueError(f"{function}: previous is for the checkpoints of a run; {path} is a file: leave it out.")
        return path
    found = checkpoints(path)
    if not found:
        if path.name == FOLDER and checkpoints(path.parent):
            raise FileNotFoundError(f"{function}: {path} is of the run {path.parent}; give that, or one of the files.")
        if (model := model_folder(path)) is not None:
            raise FileNotFoundError(
                f"{function}: {path} holds no checkpoint, but a model of hebbcore classify; its network alone is in "
                f"{model / MODEL_NETWORK}."
            )
        raise FileNotFoundError(f"{function}: {path} holds no checkpoint; train into it first.")
    for candidate in reversed(found):
        try:
            read(function, candidate)
            return candidate
        except ValueError as error:
            if not previous:
                before = f" The one before it, {found[-2].name}, is used with previous=True (--previous)."
                raise ValueError(f"{error}{before if len(found) > 1 else ''}") from None
    raise ValueError(
        f"{function}: every checkpoint in {path} is damaged or of another version; to train anew, move "
        f"{path / FOLDER} away."
    )


def model_folder(path: Path) -> Path | None:
    """Return the folder of the model of hebbcore classify that a path means: itself, or model/ in it; None: none."""
    return next((folder for folder in (path, path / MODEL_FOLDER) if (folder / MODEL).is_file()), None)


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first; copies that a user calls otherwise are none."""
    return sorted(path for path in (run / FOLDER).glob("*") if _CHECKPOINT.fullmatch(path.name) and path.is_file())


def checkpoint_path(run: Path, step: int) -> Path:
    """Return where the checkpoint after so many steps belongs."""
    return run / FOLDER / f"step-{step:010d}.h5"


def describe(function: str, model: Network | HebbianLayer) -> dict[str, Any]:
    """Return what load needs besides the arrays, as JSON types."""
    scale = {} if model.pixel_scale is None else {"pixel_scale": model.pixel_scale.table()}
    if isinstance(model, HebbianLayer):
        return {
            "kind": "layer",
            "rule": serialize.rule_table(function, model.rule),
            "stride": list(model.stride),
            "padding": list(model.padding),
            "padding_mode": model.padding_mode,
            "precision": model.precision,
            "linear": model.linear,
            **scale,
        }
    if model.image_shape is None:
        raise ValueError(f"{function}: the network has no weights yet; build or train it first.")
    return {
        "kind": "network",
        "image_shape": list(model.image_shape),
        "seed": model.seed,
        "precision": model.site.precision,
        "layers": [serialize.layer_table(function, layer) for layer in model.stack],
        **({"fit_defaults": dict(model.training)} if model.training else {}),
        **scale,
    }


def as_json(header: Any) -> str:
    """Return a header as JSON; NumPy's numbers, which rules and settings may be given, as plain ones."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{value!r} cannot be written to a checkpoint; parameters must be numbers, text or lists.")

    return json.dumps(header, default=plain)


def arrays_of(model: Network | HebbianLayer) -> dict[str, Array]:
    """Return the arrays of a model, by "layer/name". Raises ValueError for names that a file cannot hold."""
    if isinstance(model, HebbianLayer):
        return {"weights": model.weights, **nameable("the layer", state_arrays(model.state or {}))}
    pairs = zip(model.names, model.layers, strict=True)
    return {f"{name}/{key}": array for name, layer in pairs for key, array in arrays_for_files(layer).items()}


def restore(
    function: str, header: dict[str, Any], arrays: dict[str, Array], device: str, workspace: int | str
) -> Network | HebbianLayer:
    """Return the model of a header and its arrays."""
    if checks.choice(function, "kind", header["kind"], ("layer", "network")) == "layer":
        return _layer(function, header, arrays, device)
    layers = serialize.layers_of(header["layers"], "layers", function)
    precision = _precision(header["precision"], device)
    network = Network(layers, seed=header["seed"], device=device, precision=precision, workspace=workspace)
    network.training = header.get("fit_defaults", {})
    _of_layers(network, header["image_shape"], arrays)  # before memory is taken for them
    network.build(header["image_shape"], draw=False)
    restore_arrays(network, arrays)
    network.pixel_scale = PixelScale.from_table(function, header.get("pixel_scale"))
    return network


def _layer(function: str, header: dict[str, Any], arrays: dict[str, Array], device: str) -> HebbianLayer:
    """Return the layer of a header and its arrays."""
    weights, precision = arrays["weights"], _precision(header["precision"], device)
    gemm.check_precision(function, precision, device)
    if weights.ndim not in (2, 4) or not weights.size or weights.dtype.kind != "f":
        raise ValueError(f"weights are {weights.shape} {weights.dtype}, which no layer has.")
    rule = serialize.rule_of(header["rule"], "rule", function)
    require_counts(function, rule, len(weights))
    require_state(rule, arrays)
    return HebbianLayer(
        devices.to_device(weights, device),
        rule,
        checks.pair(function, "stride", header["stride"], 1),
        checks.pair(function, "padding", header["padding"], 0),
        checks.choice(function, "padding_mode", header["padding_mode"], PADDING_MODES),
        precision,
        checks.boolean(function, "linear", header["linear"]),
        state_in(rule, arrays),
        PixelScale.from_table(function, header.get("pixel_scale")),
    )


def _of_layers(network: Network, image_shape: Any, arrays: dict[str, Array]) -> dict[str, dict[str, Array]]:
    """Return the arrays of each layer, by its name, in the dtypes that it has; another program may have changed them.

    The network need not be built. Raises ValueError for arrays of another.
    """
    shapes = network.shapes_for(image_shape)
    if sum(sum(shape[:2]) for shape in shapes if len(shape) == 3) > _MOST_SIDES:
        raise ValueError(f"its images are said to have more than {_MOST_SIDES} pixels a side in all.")
    found: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        layer_name, _, array_name = key.partition("/")
        found.setdefault(layer_name, {})[array_name] = array
    for name, layer, value in zip(network.names, network.layers, network.graph.entries, strict=True):
        own, shape = found.get(name, {}), shapes[value]
        for key, (size, dtype) in layer.arrays_for(network.site, shape, "observed_count" in own).items():
            if key not in own:
                raise ValueError(f"{name} lacks its {key}.")
            if own[key].shape != size or own[key].dtype.kind != dtype.kind:
                raise ValueError(f"{key} of {name} must be {size} {dtype}, got {own[key].shape} {own[key].dtype}.")
            own[key] = own[key].astype(dtype, copy=False)
        if isinstance(layer, Learner):
            require_state(layer.bound_rule, own)
    return found


def _precision(precision: str, device: str) -> str:
    """Return the precision, or what the CPU has instead of one that only rounds on CUDA."""
    return "float32" if device == "cpu" and precision in ("tf32", "bf16") else precision


def restore_arrays(network: Network, arrays: dict[str, Array]) -> None:
    """Give the layers of a built network the arrays of a checkpoint. Raises ValueError if they are of another."""
    mine = _of_layers(network, network.image_shape, arrays)
    for name, layer in zip(network.names, network.layers, strict=True):
        own = mine.get(name, {})
        layer.restore({key: devices.to_device(array, network.site.device) for key, array in own.items()})


def digest_of(network: Network) -> str:
    """Return a digest of what a network's features depend on: its layers and their arrays."""
    described = describe("digest_of", network)["layers"]
    layers = [_layer_of_old(layer, table) for layer, table in zip(network.stack, described, strict=True)]
    digest = hdf5.new_digest()
    digest.update(as_json(layers).encode())
    arrays = arrays_of(network)
    for key in sorted(arrays):
        array = np.ascontiguousarray(devices.to_device(arrays[key], "cpu"))
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return str(digest.hexdigest())


def _layer_of_old(layer: Layer, table: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a layer without later parameters, its rule's too, that are as if they were not there."""

    def layer_again(some: dict[str, Any]) -> dict[str, Any]:
        return serialize.layer_table("digest_of", serialize.layer_of(some, "layer"))

    def rule_again(some: dict[str, Any]) -> dict[str, Any]:
        return serialize.rule_table("digest_of", serialize.rule_of(some, "rule"))

    if isinstance(layer, Branches):
        pairs = zip(layer.branches, table["branches"], strict=True)
        table = {**table, "branches": [list(map(_layer_of_old, *pair)) for pair in pairs]}
    if isinstance(layer, Learner):
        table = {**table, "rule": _of_old(layer.rule, table["rule"], rule_again)}
    return _of_old(layer, table, layer_again)


def _of_old(thing: Any, table: dict[str, Any], again: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return the table of a layer or rule without later parameters that are as if they were not there.

    again: makes the thing of a table that may lack them, and returns the table of that.
    """
    later = {field.name for field in dataclasses.fields(thing) if _is_later(thing, field)} & table.keys()
    if not later:
        return table
    try:
        default = again({key: value for key, value in table.items() if key not in later})
    except ValueError:  # what is there goes with none of their defaults
        return table
    return {key: value for key, value in table.items() if key not in later or value != default.get(key)}


def _is_later(thing: Any, field: "dataclasses.Field[Any]") -> bool:
    """Return True for a parameter that came after files that hold digests."""
    return bool(field.metadata.get("later")) or (is_ours(type(thing)) and field.name not in _FIRST_FIELDS)


def write(path: Path, header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write a header (JSON types) and arrays to a file, atomically."""
    host: dict[str, Any] = {"header": np.frombuffer(as_json(header).encode(), np.uint8)}
    host |= {f"arrays/{key}": devices.to_device(array, "cpu") for key, array in arrays.items()}
    write_atomically(path, lambda temporary: hdf5.write_sealed(temporary, "checkpoint", VERSION, host))


def read(function: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and arrays of a file, which take no more memory than the file does.

    Raises ValueError if it is damaged or not of this format.
    """
    while True:
        before = _version_at(path)
        try:
            return _read(function, path)
        except ValueError:
            if _version_at(path) == before:
                raise  # else another process has saved meanwhile, and a part of each was looked at


def _version_at(path: Path) -> tuple[int, int]:
    """Return what tells a file from one that has taken its name."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _read(function: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    refusal = f"{function}: {path} is damaged or no checkpoint of hebbcore"
    hdf5.check(function, path, "checkpoint", VERSION)
    with hdf5.reading(path, refusal) as file:
        return _header_in(file), hdf5.arrays_in(file, "arrays")


def header_of(function: str, path: Path) -> dict[str, Any]:
    """Return the header of a file alone, of which little is read: its digest is not compared.

    Raises ValueError if it is not of this format.
    """
    with hdf5.reading(path, f"{function}: {path} is damaged or no checkpoint of hebbcore") as file:
        return _header_in(file)


def _header_in(file: Any) -> dict[str, Any]:
    text = hdf5.member(file, "header")
    hdf5.require_within("header", text)
    header = parse_json(text[...].tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header
