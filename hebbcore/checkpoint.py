"""Files of networks and layers: HDF5, written atomically, after a line with a digest of it. No pickles."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import backend, tables
from hebbcore.backend import Array
from hebbcore.files import write_atomically
from hebbcore.layers import WORKSPACE, HebbianLayer
from hebbcore.network import Network

FORMAT = "hebbcore checkpoint"
VERSION = 1
FOLDER = "checkpoints"  # of a run
_SUFFIX = ".h5"
_BLOCK = 512  # bytes before the HDF5, which leaves them to us


def save(path: str | os.PathLike[str], model: Network | HebbianLayer) -> None:
    """Write a network or a layer to a file, which load reads.

    Raises TypeError for other things, ValueError for rules without a name in RULES, OSError if it cannot be written.
    """
    if not isinstance(model, Network | HebbianLayer):
        raise TypeError(f"save: model must be a Network or a HebbianLayer, got {type(model).__name__}.")
    write(Path(path), describe("save", model), arrays_of(model))


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    workspace: int | str = WORKSPACE,
    previous: bool = False,
) -> Network | HebbianLayer:
    """Return the network or layer of a file that save wrote, or the latest network of a run's folder.

    device: "auto", "cpu" or "cuda". workspace: the network's. previous: of a run, if the latest checkpoint is damaged,
    take the one before it.

    Raises FileNotFoundError if there is none, ValueError if the file is damaged or was not written by hebbcore.
    """
    place = backend.resolve("load", device)
    header, arrays = read("load", find("load", Path(path), previous))
    return restore("load", header, arrays, place, workspace)


def find(function: str, path: Path, previous: bool = False) -> Path:
    """Return the path if it is a file, the latest sound checkpoint of a run if it is a folder.

    Raises FileNotFoundError if there is none, ValueError if the latest is damaged and previous is not set.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{function}: {path} does not exist.")
        return path
    found = checkpoints(path)
    if not found:
        raise FileNotFoundError(f"{function}: {path} holds no checkpoint; train into it first.")
    for candidate in reversed(found):
        try:
            read(function, candidate)
            return candidate
        except ValueError as error:
            if not previous:
                before = f" The one before it, {found[-2].name}, is used with previous." if len(found) > 1 else ""
                raise ValueError(f"{error}{before}") from None
    raise ValueError(f"{function}: every checkpoint in {path} is damaged; train again.")


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, the oldest first."""
    return sorted(path for path in (run / FOLDER).glob(f"step-*{_SUFFIX}") if path.is_file())


def checkpoint_path(run: Path, step: int) -> Path:
    """Return where the checkpoint after so many steps belongs."""
    return run / FOLDER / f"step-{step:010d}{_SUFFIX}"


def describe(function: str, model: Network | HebbianLayer) -> dict[str, Any]:
    """Return what load needs besides the arrays, as JSON types."""
    if isinstance(model, HebbianLayer):
        return {
            "kind": "layer",
            "rule": tables.rule_table(function, model.rule),
            "stride": list(model.stride),
            "padding": list(model.padding),
            "padding_mode": model.padding_mode,
            "precision": model.precision,
            "linear": model.linear,
        }
    if model.image_shape is None:
        raise ValueError(f"{function}: the network has no weights yet; build or train it first.")
    return {
        "kind": "network",
        "image_shape": list(model.image_shape),
        "seed": model.seed,
        "precision": model.site.precision,
        "layers": [tables.layer_table(function, layer) for layer in model.layers],
    }


def as_json(header: dict[str, Any]) -> str:
    """Return a header as JSON; NumPy's numbers, which rules and settings may be given, as plain ones."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{value!r} cannot be written to a checkpoint; parameters must be numbers, text or lists.")

    return json.dumps(header, default=plain)


def arrays_of(model: Network | HebbianLayer) -> dict[str, Array]:
    """Return the arrays of a model, by "layer/name"."""
    if isinstance(model, HebbianLayer):
        return {"weights": model.weights}
    pairs = zip(model.names, model.layers, strict=True)
    return {f"{name}/{key}": array for name, layer in pairs for key, array in layer.arrays().items()}


def restore(
    function: str, header: dict[str, Any], arrays: dict[str, Array], device: str, workspace: int | str
) -> Network | HebbianLayer:
    """Return the model of a header and its arrays."""
    if header["kind"] == "layer":
        return HebbianLayer(
            backend.to_device(arrays["weights"], device),
            tables.rule_of(header["rule"], "rule", function),
            (header["stride"][0], header["stride"][1]),
            (header["padding"][0], header["padding"][1]),
            header["padding_mode"],
            _precision(header["precision"], device),
            header["linear"],
        )
    layers = [tables.layer_of(table, f"layers[{i}]", function) for i, table in enumerate(header["layers"])]
    precision = _precision(header["precision"], device)
    network = Network(layers, seed=header["seed"], device=device, precision=precision, workspace=workspace)
    network.lay_out(header["image_shape"])
    restore_arrays(network, arrays)
    return network


def _precision(precision: str, device: str) -> str:
    """Return the precision, or what the CPU has in the place of one that only rounds on CUDA."""
    return "float32" if device == "cpu" and precision in ("tf32", "bf16") else precision


def restore_arrays(network: Network, arrays: dict[str, Array]) -> None:
    """Give the layers of a built network the arrays of a checkpoint."""
    for name, layer in zip(network.names, network.layers, strict=True):
        own = {key.split("/")[1]: array for key, array in arrays.items() if key.split("/")[0] == name}
        layer.restore({key: backend.to_device(array, network.site.device) for key, array in own.items()})


def digest_of(network: Network) -> str:
    """Return a digest of what a network's features depend on: its layers and their arrays."""
    text = np.frombuffer(json.dumps(describe("digest_of", network)["layers"]).encode(), np.uint8)
    return _digest(text, {key: backend.to_device(array, "cpu") for key, array in arrays_of(network).items()})


def write(path: Path, header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write a header (JSON types) and arrays to a file, atomically."""
    import h5py

    text = np.frombuffer(as_json(header).encode(), np.uint8)
    host = {key: np.ascontiguousarray(backend.to_device(array, "cpu")) for key, array in arrays.items()}

    def fill(temporary: Path) -> None:
        with h5py.File(temporary, "w", userblock_size=_BLOCK) as file:
            file["header"] = text
            for key, array in host.items():
                file[f"arrays/{key}"] = array
        with temporary.open("r+b") as raw:
            raw.seek(_BLOCK)
            digest = hashlib.file_digest(raw, _hash).hexdigest()
            raw.seek(0)
            raw.write(f"{FORMAT} {VERSION} {digest}\n".encode().ljust(_BLOCK))

    write_atomically(path, fill)


def read(function: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and arrays of a file. Raises ValueError if it is damaged or not of this format.

    HDF5 sees the file only if its digest is right: a changed byte can make it read other numbers, or never end.
    """
    import h5py

    arrays: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[...]

    with path.open("rb") as raw:
        block = raw.read(_BLOCK)
        digest = hashlib.file_digest(raw, _hash).hexdigest()
    found = re.fullmatch(rf"{FORMAT} (\d+) ([0-9a-f]+)\n *".encode(), block)
    if found is None or len(block) < _BLOCK:
        raise ValueError(f"{function}: {path} is damaged or no checkpoint of hebbcore.")
    if int(found[1]) != VERSION:
        raise ValueError(
            f"{function}: {path} has version {int(found[1])} of the format; this hebbcore reads {VERSION}."
        )
    if found[2].decode() != digest:
        raise ValueError(f"{function}: {path} is damaged: its contents do not match its digest.")
    with h5py.File(path, "r") as file:
        text = file["header"][...]
        if "arrays" in file:
            file["arrays"].visititems(take)
    return json.loads(text.tobytes()), arrays


def _hash() -> Any:
    return hashlib.blake2b(digest_size=16)


def _digest(text: Any, arrays: dict[str, Any]) -> str:
    digest = _hash()
    digest.update(text.tobytes())
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return str(digest.hexdigest())
