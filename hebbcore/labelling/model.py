"""The folder model/: a network, a classifier of its features and the names of the classes, without pickles."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebbcore import checkpoint, checks, hdf5
from hebbcore.engine import backend
from hebbcore.engine.finite import require_computable
from hebbcore.features.choice import Features
from hebbcore.files import make_folder, parse_json, remove_partial, write_atomically, write_text
from hebbcore.labelling.features import rows_of
from hebbcore.labelling.guesses import Floats, Guesses
from hebbcore.layers import WORKSPACE
from hebbcore.network import Network
from hebbcore.version import __version__

FOLDER, NOTE, NETWORK = checkpoint.MODEL_FOLDER, checkpoint.MODEL, checkpoint.MODEL_NETWORK
VERSION = 1  # of the format
CLASSIFIER = "classifier"  # what its file says that it is
_CLASSIFIER = re.compile(r"classifier-[0-9a-f]{16}\.h5")


@dataclass(frozen=True)
class Model:
    """What `hebbcore classify` has learned: from images to labels.

    Parameters
    ----------
    features : Features
        A network, and which of its output is taken.
    classifier : FewLabelClassifier
        Fitted to these features; its classes are 0, 1, …
    classes : sequence of str
        What they mean.
    value_range : int or None
        Which value of 16-bit images was read as white; None: there were none.
    """

    features: Features
    classifier: Any
    classes: tuple[str, ...]
    value_range: int | None = None

    @property
    def network(self) -> Network:
        """Makes the features."""
        return self.features.network

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape (H, W, C) of the images that it takes."""
        shape = self.network.image_shape
        assert shape is not None
        return shape

    def predict_proba(self, images: Any) -> Floats:
        """Return how likely each class is.

        Parameters
        ----------
        images : array (n, H, W, C)
            Of `image_shape`, uint8 (read as 0…1) or floating.

        Returns
        -------
        array (n, classes), float
            Each row sums to 1.

        Raises
        ------
        ValueError
            For images of another shape or scale (see Network), or with NaN, infinity or magnitudes above 1e12: it names
            the first.
        """
        images = backend.as_array("Model.predict_proba", "images", images)
        require_computable("Model.predict_proba", "images", images)
        probabilities: Floats = self.classifier.predict_proba(rows_of(self.features, images))
        return probabilities

    def predict(self, images: Any) -> list[str]:
        """Return the likeliest class of each image, by its name.

        Parameters
        ----------
        images : array (n, H, W, C)
            As for predict_proba.

        Returns
        -------
        list of str
            One name an image.

        Raises
        ------
        ValueError
            As predict_proba.
        """
        return [self.classes[first] for first in Guesses.of(self.predict_proba(images)).first]


def save_model(folder: Path, model: Model, made_from: str) -> None:
    """Write a model into a folder; until its last file is complete, the folder holds the model of before.

    made_from: a digest of all that decides the classifier, see read_note.
    """
    make_folder(folder)
    remove_partial(folder)
    network = checkpoint.digest_of(model.network)
    if not _holds(folder / NETWORK, network, model.network.image_shape):
        checkpoint.save(folder / NETWORK, model.network)
    arrays, table = model.classifier.state()
    name = f"classifier-{made_from[:16]}.h5"
    write_atomically(folder / name, lambda path: hdf5.write_sealed(path, CLASSIFIER, VERSION, arrays))
    note = {
        "format": VERSION, "hebbcore": __version__, "classes": list(model.classes),
        "image_shape": list(model.image_shape), "layer": model.features.layer, "pool": model.features.grid,
        "mirror": model.features.mirror, "network": network, "classifier": name, "parameters": table,
        "made_from": made_from,
    }  # fmt: skip
    if model.value_range is not None:
        note["range"] = model.value_range
    write_text(folder / NOTE, json.dumps(note, indent=1) + "\n")
    for path in folder.iterdir():
        if _CLASSIFIER.fullmatch(path.name) and path.name != name:
            path.unlink()


def _holds(path: Path, digest: str, image_shape: tuple[int, ...] | None) -> bool:
    """Return whether a file holds the network of a digest, which images of another size may have too."""
    try:
        network = checkpoint.load(path, device="cpu")
    except (FileNotFoundError, ValueError):  # damaged
        return False
    if not isinstance(network, Network) or network.image_shape != image_shape:
        return False
    return checkpoint.digest_of(network) == digest


def read_note(function: str, folder: Path) -> dict[str, Any]:
    """Return what model.json says. Raises FileNotFoundError, and ValueError if it is damaged or of another version."""
    path = folder / NOTE
    if not path.is_file():
        raise FileNotFoundError(f"{function}: {folder} holds no model ({NOTE}); hebbcore classify makes one.")
    try:
        note = parse_json(path.read_bytes())
        version = note["format"]
        texts = [*note["classes"], note["layer"], note["network"], note["classifier"], note["made_from"]]
        if not all(isinstance(text, str) for text in texts) or not _CLASSIFIER.fullmatch(note["classifier"]):
            raise ValueError("its texts are none")
        if not isinstance(note["parameters"], dict) or {"pool", "mirror", "image_shape"} - note.keys():
            raise ValueError("it lacks something")
        if not isinstance(note.get("range", 255), int) or note.get("range", 255) < 255:
            raise ValueError("its range is none")
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{function}: {path} is damaged ({type(error).__name__}: {error}); run hebbcore classify again."
        ) from None
    if version != VERSION:
        raise ValueError(f"{function}: {path} has version {version} of the format; this hebbcore reads {VERSION}.")
    found: dict[str, Any] = note
    return found


def load_model(path: str | os.PathLike[str], *, device: str = "auto") -> Model:
    """Return the model that `hebbcore classify` or `hebbcore label` made, as hebbcore.load does.

    Parameters
    ----------
    path : path
        The folder model/, which may be copied to another machine, or the folder of the work that it lies in.
    device : {"auto", "cpu", "cuda"}
        Where the network computes.

    Returns
    -------
    Model
        Network, classifier and classes.

    Raises
    ------
    FileNotFoundError
        If there is no model.
    ValueError
        If it is damaged, of another version, or needs a layer or rule that no imported module has registered.
    """
    return read_model("load_model", Path(path), device)


def read_model(function: str, path: Path, device: str, workspace: int | str = WORKSPACE) -> Model:
    """Return the model that a path means, see hebbcore.load. function: what messages begin with."""
    from hebbcore.classify import FewLabelClassifier

    folder = checkpoint.model_folder(path) or path
    note = read_note(function, folder)
    network = checkpoint.load(folder / NETWORK, device=device, workspace=workspace)
    same = isinstance(network, Network) and list(network.image_shape or ()) == note["image_shape"]
    if not isinstance(network, Network) or not same or checkpoint.digest_of(network) != note["network"]:
        raise ValueError(f"{function}: {folder / NETWORK} is not the network that {NOTE} names; copy the folder anew.")
    file = folder / note["classifier"]
    if not file.is_file():
        raise FileNotFoundError(f"{function}: {file} is missing; copy the folder anew.")
    hdf5.check(function, file, CLASSIFIER, VERSION)
    with hdf5.reading(file, f"{function}: {file} holds no classifier") as opened:
        arrays = hdf5.arrays_in(opened, "/")
    with checkpoint.naming(function, folder, "does not hold a model of this version"):
        classifier = FewLabelClassifier.from_state(arrays, note["parameters"])
        if len(classifier.classes_) != len(note["classes"]):
            raise ValueError(f"it has {len(classifier.classes_)} classes, and {NOTE} names {len(note['classes'])}")
        features = Features.checked(function, network, note["layer"], note["pool"], note["mirror"])
    return Model(features, classifier, tuple(note["classes"]), note.get("range"))


def check_images(function: str, model: Model, shape: Sequence[int]) -> None:
    """Raise ValueError unless images have the shape that a model takes."""
    if tuple(shape) != model.image_shape:
        problem = f"must be {model.image_shape}, as the model was made for, got {tuple(shape)}."
        raise checks.wrong(ValueError, function, "images", problem)
