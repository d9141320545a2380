"""What users give a RidgeReadout as rows: arrays, and features that lie in a file and are read a part at a time."""

import os
import sys
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d, validate_data

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.evaluation.batches import Labels, as_features, as_labels, labels_given


def checked_features(function: str, model: Any, given: Any, reset: bool = False, least: int = 1) -> Array:
    """Return finite features (n, features), those in a file mapped into memory.

    model: says how many features there are, or learns it if reset is set. least: number of rows.
    """
    rows = _mapped(given)
    if not (backend.on_cuda(rows) or isinstance(rows, np.memmap)):
        found = validate_data(model, rows, reset=reset, dtype="numeric", ensure_min_samples=least)
        backend.require_numbers(function, "X", found, given)  # scikit-learn lets dates pass
        return found
    features = as_features(function, "features", rows)
    if reset:
        learn_width(model, features.shape[1])
    if features.shape[1] != model.n_features_in_:
        raise ValueError(f"{function}: X has {features.shape[1]} features, but {model.n_features_in_} are expected.")
    return features


def checked_rows(function: str, model: Any, X: Any, y: Any, reset: bool, least: int) -> tuple[Array, Labels]:
    """Return features, see checked_features, and labels (n,)."""
    rows, y = _mapped(X), labels_given(function, "labels", y)
    if y is not None and (backend.on_cuda(rows) or isinstance(rows, np.memmap)):
        features = checked_features(function, model, rows, reset)
        labels = column_or_1d(devices.to_device(y, "cpu") if backend.on_cuda(y) else y, warn=True)
    else:
        features, labels = validate_data(model, rows, y, reset=reset, dtype="numeric", ensure_min_samples=least)
        backend.require_numbers(function, "X", features, X)
    return features, as_labels(function, "labels", labels, len(features), "features")


def learn_width(model: Any, features: int) -> None:
    """Note how many features a model is fitted to, without names: those of a table of before would be asked for."""
    model.n_features_in_ = features
    vars(model).pop("feature_names_in_", None)


def _mapped(given: Any) -> Any:
    """Return a dataset of h5py that lies in its file as an array does as that array (n, features), other things as is.

    The maps of an image are one row.
    """
    h5py = sys.modules.get("h5py")
    if h5py is None or not isinstance(given, h5py.Dataset) or not given.ndim or not given.size:
        return given
    offset = given.id.get_offset()
    if offset is None or given.chunks is not None or not _is_on_disk(given, offset + given.nbytes):
        rows = given[:]
    else:
        rows = np.memmap(given.file.filename, given.dtype, "r", offset, given.shape)
    return rows if rows.ndim <= 2 else rows.reshape(len(rows), -1)


def _is_on_disk(dataset: Any, end: int) -> bool:
    """Return whether the file of a dataset's name holds it, up to byte `end`: others lie in memory or in more files."""
    file = dataset.file
    if file.driver != "sec2" or dataset.id.get_create_plist().get_external_count():
        return False
    if file.mode != "r":
        file.flush()  # what was just written is in HDF5's buffers
    try:
        found = os.stat(file.filename)
    except OSError:  # it was moved or removed, or its name is relative to another working folder
        return False
    return os.path.samestat(found, os.fstat(file.id.get_vfd_handle())) and found.st_size >= end
