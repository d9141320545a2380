"""A classifier as arrays and plain values, so that it is stored without pickle."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hebbcore.classify.likeness import Likeness
from hebbcore.classify.space import ARRAYS, Space

_PLAIN, _WITH_LIKENESS = 1, 2  # versions; earlier ones of hebbcore do not know the second


def state_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays and the settings of a fitted classifier, all that predictions need."""
    arrays = {
        **model._space.arrays,
        "coef": model._coef,
        "intercept": model._intercept,
        "classes": model.classes_,
        "class_shares": model.class_shares_,
    }
    prior = model.prior
    if not isinstance(prior, str):
        prior = model.class_shares_.tolist()
    accuracy, error, near = model.estimated_accuracy_, model.calibration_error_, model.neighbour_features
    settings = {
        "version": _PLAIN if model._space.likeness is None else _WITH_LIKENESS,
        "prior": prior,
        "neighbours": model.neighbours,
        "neighbour_features": None if near is None else np.asarray(near).tolist(),
        "regime": model.regime_,
        "sharpness": float(model._sharpness),
        "estimated_accuracy": None if accuracy is None else list(accuracy),
        "calibration_error": None if error is None else list(error),
    }
    return arrays, settings


def restore(model: Any, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Set the attributes of a new classifier from a state. Raises ValueError if they do not fit each other."""
    function = "FewLabelClassifier.from_state"
    version = settings.get("version")
    if version not in (_PLAIN, _WITH_LIKENESS):
        raise ValueError(f"{function}: settings must be of version {_PLAIN} or {_WITH_LIKENESS}, got {version!r}.")
    of_likeness = Likeness._fields if version == _WITH_LIKENESS else ()
    needed = (*ARRAYS, *of_likeness, "coef", "intercept", "classes", "class_shares")
    lacking = [name for name in needed if name not in arrays]
    lacking += [name for name in ("prior", "regime", "sharpness", "estimated_accuracy") if name not in settings]
    if lacking:
        raise ValueError(f"{function}: the state lacks {lacking}.")
    found = {name: np.asarray(arrays[name]) for name in needed}
    seen, components, classes = len(found["mean"]), len(found["eigenvalues"]), len(found["classes"])
    expected = {
        "mean": (seen,), "scale": (seen,), "axes": (components, seen), "eigenvalues": (components,),
        "coef": (components, classes), "intercept": (classes,), "classes": (classes,), "class_shares": (classes,),
    }  # fmt: skip
    if of_likeness:
        features = len(found["feature_mean"])
        expected |= {"feature_mean": (features,), "feature_scale": (features,), "landmarks": (seen, features)}
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise ValueError(f"{function}: {name} must have shape {shape}, got {found[name].shape}.")
        if name != "classes" and not (found[name].dtype.kind == "f" and np.isfinite(found[name]).all()):
            raise ValueError(f"{function}: {name} must be finite floats, got {found[name].dtype}.")
    accuracy, error = settings["estimated_accuracy"], settings.get("calibration_error")  # which earlier states lack
    model._space = Space.of(found)
    model._coef, model._intercept, model._images, model._seed = found["coef"], found["intercept"], None, 0
    model.prior, model.regime_, model._sharpness = settings["prior"], settings["regime"], float(settings["sharpness"])
    model.neighbours = settings.get("neighbours", "auto")  # older states have none
    model.neighbour_features = settings.get("neighbour_features")
    model.classes_, model.class_shares_ = found["classes"], found["class_shares"]
    model.n_features_in_ = model._space.features
    model.estimated_accuracy_ = None if accuracy is None else tuple(accuracy)
    model.calibration_error_ = None if error is None else tuple(error)
