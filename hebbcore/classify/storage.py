"""A classifier as arrays and plain values, so that it is stored without pickle."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hebbcore.classify.answers import Answers
from hebbcore.classify.likeness import Likeness
from hebbcore.classify.space import ARRAYS, Space

_GRAPH = ("laplacian", "columns", "starts")  # of the state of a Poisson, beside roots and shares
_PLAIN, _WITH_LIKENESS = 1, 2  # versions; earlier ones of hebbcore do not know the second


def state_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays and the settings of a fitted classifier, all that predictions need."""
    answers = model._answers
    arrays = {
        **answers.space.arrays,
        "coef": answers.coef,
        "intercept": answers.intercept,
        "classes": answers.classes,
        "class_shares": model.class_shares_,
    }
    prior = model.prior
    if not isinstance(prior, str):
        prior = model.class_shares_.tolist()
    accuracy, error, near = model.estimated_accuracy_, model.calibration_error_, model.neighbour_features
    settings = {
        "version": _PLAIN if answers.space.likeness is None else _WITH_LIKENESS,
        "prior": prior,
        "neighbours": model.neighbours,
        "neighbour_features": None if near is None else np.asarray(near).tolist(),
        "regime": model.regime_,
        "sharpness": float(answers.sharpness),
        "estimated_accuracy": None if accuracy is None else list(accuracy),
        "calibration_error": None if error is None else list(error),
    }
    return arrays, settings


def with_answers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a classifier is pickled as; those of earlier versions have the parts of its answers one by one."""
    state = dict(state)
    parts = [state.pop(name, None) for name in ("_space", "_coef", "_intercept", "_sharpness")]
    if "_answers" not in state and parts[0] is not None:
        state["_answers"] = Answers(parts[0], state["classes_"], *parts[1:])
    return state


def require_arrays(function: str, arrays: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless arrays have these shapes and are finite floats."""
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{function}: {name} must have shape {shape}, got {arrays[name].shape}.")
        if not (arrays[name].dtype.kind == "f" and np.isfinite(arrays[name]).all()):
            raise ValueError(f"{function}: {name} must be finite floats, got {arrays[name].dtype}.")


def taken(function: str, arrays: Mapping[str, Any], needed: Sequence[str], *more: str) -> dict[str, Any]:
    """Return the arrays of a state that are needed. Raises ValueError if some are not there; more: that lacks too."""
    lacking = [name for name in needed if name not in arrays] + list(more)
    if lacking:
        raise ValueError(f"{function}: the state lacks {lacking}.")
    return {name: np.asarray(arrays[name]) for name in needed}


def shapes_of_space(found: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays of a space must have, which fit each other."""
    seen, components = len(found["mean"]), len(found["eigenvalues"])
    expected: dict[str, tuple[int, ...]] = {
        "mean": (seen,), "scale": (seen,), "axes": (components, seen), "eigenvalues": (components,),
    }  # fmt: skip
    if "landmarks" in found:
        features = len(found["feature_mean"])
        expected |= {"feature_mean": (features,), "feature_scale": (features,), "landmarks": (seen, features)}
    return expected


def images_of(function: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of Images.state. Raises ValueError if they do not fit each other: kernels go by them."""
    of_likeness = Likeness._fields if Likeness._fields[0] in arrays else ()
    found = taken(function, arrays, (*ARRAYS, *of_likeness, "rows", "roots", "shares", *_GRAPH))
    images, links = len(found["roots"]), len(found["columns"])
    expected = {"rows": (images, len(found["eigenvalues"])), "roots": (images,), "shares": (images,)}
    require_arrays(function, found, {**shapes_of_space(found), **expected, "laplacian": (links,)})
    columns, starts = found["columns"], found["starts"]
    whole = columns.dtype.kind == starts.dtype.kind == "i" and columns.ndim == 1 and starts.shape == (images + 1,)
    counts: Any = np.diff(starts) if whole else np.zeros(0)
    sound = whole and starts[0] == 0 and starts[-1] == links and counts.min(initial=0) >= 0
    if sound:
        own = np.repeat(np.arange(images), counts)
        inside = columns.min(initial=0) >= 0 and columns.max(initial=0) < images
        sound = inside and np.array_equal(np.bincount(own[columns == own], minlength=images), np.ones(images))
    if not sound:
        problem = f"columns and starts must be integers that say where {links} links of {images} images and the "
        raise ValueError(f"{function}: {problem}diagonal are; give what images_state gave.")
    return found


def restore(model: Any, arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Set the attributes of a new classifier from a state. Raises ValueError if they do not fit each other."""
    function = "FewLabelClassifier.from_state"
    version = settings.get("version")
    if version not in (_PLAIN, _WITH_LIKENESS):
        raise ValueError(f"{function}: settings must be of version {_PLAIN} or {_WITH_LIKENESS}, got {version!r}.")
    of_likeness = Likeness._fields if version == _WITH_LIKENESS else ()
    needed = (*ARRAYS, *of_likeness, "coef", "intercept", "classes", "class_shares")
    settings_needed = ("prior", "regime", "sharpness", "estimated_accuracy")
    found = taken(function, arrays, needed, *(name for name in settings_needed if name not in settings))
    components, classes = len(found["eigenvalues"]), len(found["classes"])
    expected = {"coef": (components, classes), "intercept": (classes,), "class_shares": (classes,)}
    if found["classes"].shape != (classes,):
        raise ValueError(f"{function}: classes must have shape ({classes},), got {found['classes'].shape}.")
    require_arrays(function, found, {**shapes_of_space(found), **expected})
    accuracy, error = settings["estimated_accuracy"], settings.get("calibration_error")  # which earlier states lack
    sharpness = float(settings["sharpness"])
    model._answers = Answers(Space.of(found), found["classes"], found["coef"], found["intercept"], sharpness)
    model._images, model._seed, model.prior, model.regime_ = None, 0, settings["prior"], settings["regime"]
    model.neighbours = settings.get("neighbours", "auto")  # older states have none
    model.neighbour_features = settings.get("neighbour_features")
    model.classes_, model.class_shares_ = found["classes"], found["class_shares"]
    model.n_features_in_ = model._answers.space.features
    model.estimated_accuracy_ = None if accuracy is None else tuple(accuracy)
    model.calibration_error_ = None if error is None else tuple(error)
