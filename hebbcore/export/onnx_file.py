"""ONNX files of networks, layers and few-label models."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hebbcore import checkpoint, checks
from hebbcore.bridges.onnx_graph import Graph, Tensor
from hebbcore.engine.pixel_scale import require_bytes
from hebbcore.export.classifier import predictions
from hebbcore.files import write_atomically
from hebbcore.formulas import Formula
from hebbcore.formulas.images import as_images, as_maps, require_channels
from hebbcore.labelling.model import Model
from hebbcore.layers import HebbianLayer
from hebbcore.network import Network
from hebbcore.serialize import flat
from hebbcore.texts import is_unicode
from hebbcore.version import __version__

OPSET, IR = 17, 8  # of 2022: programs of then and later read them
DTYPES = ("uint8", "float32")
_MOST_BYTES = 2**31  # of what Protocol Buffers write


def onnx(
    model: Network | HebbianLayer | Model,
    path: str | os.PathLike[str],
    layer: str | None = None,
    mirror: bool = False,
    *,
    dtype: str | None = None,
    channels: str = "last",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network, a layer or a few-label model as an ONNX file.

    Its input "images" has any number of images. The output of a network or layer, "features", is that of `transform`,
    within 1e-5 of the largest number, unless powers below 1 of numbers close to 0 magnify rounding. A few-label model
    puts out "label" (n,), the names of classes as text, and "probabilities" (n, classes). The file's metadata say which
    rules and layers it is made of, by which version of hebbcore, and of a few-label model the classes.

    Parameters
    ----------
    model : Network or HebbianLayer or hebbcore.labelling.model.Model
        Trained. A HebbianLayer that is a convolution takes images of any size.
    path : path
        The file. One that is there is replaced when the new one is complete.
    layer : str or None
        The network's layer whose output is wanted; None: the last.
    mirror : bool
        The mean of the outputs for each image and for its mirror image; see Network.transform.
    dtype : {"uint8", "float32"} or None
        Of the images: uint8 is read as 0…1, as everywhere. None: uint8; float32 for vectors, and if the model learned
        from floating numbers that are not of 0…1; if those are above 50, uint8 is refused.
    channels : {"last", "first"}
        Whether images, and maps that are put out, are (n, height, width, channels) or (n, channels, height, width).
    metadata : mapping of str to str or None
        More texts for the file's metadata, under other names than its own: version, rule, model and classes.

    Raises
    ------
    ValueError, TypeError
        For what is no such model, for a layer or rule that has no formula, by its name, and for metadata that are no
        such texts.
    ModuleNotFoundError
        Without the package onnx.
    OSError
        If the file cannot be written; what was there stays.
    """
    function = "export.onnx"
    with checks.needing(function, "onnx", '"hebbcore[onnx]"'):
        import onnx  # noqa: F401
    formula = _formula(function, model, layer, mirror)
    require_channels(formula, channels)
    scale = formula.model.pixel_scale
    if dtype is None:
        floating = scale is not None and (scale.large or scale.unit is False)
        dtype = "float32" if len(formula.input_shape) == 1 or floating else "uint8"
    checks.choice(function, "dtype", dtype, DTYPES)
    if dtype == "uint8":
        require_bytes(scale, function, "dtype")
    texts = _with_more(function, metadata_of(function, model), metadata or {})
    graph = Graph(unique_names("images", "features", "label", "probabilities"))
    maps = as_maps(graph, Tensor(graph, "images"), formula, channels, dtype == "uint8")
    output = formula(graph, formula.arrays, maps)
    if isinstance(model, Model):
        outputs = predictions(graph, model, output)
    else:
        graph.name_output("features", as_images(graph, output, formula, channels))
        outputs = {"features": ("float32", _dims(formula.shape, channels))}
    proto = _proto(graph, {"images": (dtype, _dims(formula.input_shape, channels))}, outputs)
    _add_metadata(proto, texts)

    def write(temporary: Path) -> None:
        temporary.write_bytes(proto.SerializeToString())

    write_atomically(Path(path), write)


def unique_names(*taken: str) -> Callable[[str], str]:
    """Return a function that makes a name that it has not given out yet of one; those taken count as given out."""
    counts = Counter(taken)

    def unique(name: str) -> str:
        counts[name] += 1
        return name if counts[name] == 1 else unique(f"{name}.{counts[name]}")

    return unique


def _formula(function: str, model: Any, layer: str | None, mirror: bool) -> Formula:
    if not isinstance(model, Model):
        return Formula.checked(function, model, layer, mirror)
    if layer is not None or mirror:
        raise ValueError(f"{function}: a few-label model has a layer and mirror of its own; leave them out.")
    features = model.features
    return Formula.checked(function, features.network, features.layer, features.mirror)


def _dims(shape: tuple[int | None, ...], channels: str) -> list[int | str]:
    """Return the sides of a value of so many images; those that are free get names."""
    names = ("height", "width", "channels")
    sides = [side if side is not None else name for side, name in zip(shape, names, strict=False)]
    return ["n", *(sides if channels == "last" or len(sides) < 3 else [sides[2], *sides[:2]])]


def _proto(graph: Graph, inputs: dict[str, Any], outputs: dict[str, Any]) -> Any:
    """Return a graph as a checked model; inputs, outputs: (dtype, sides) by name."""
    from onnx import TensorProto, checker, helper, numpy_helper

    kinds = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "text": TensorProto.STRING}

    def described(values: dict[str, Any]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kinds[dtype], sides) for name, (dtype, sides) in values.items()]

    arrays = [numpy_helper.from_array(array, name) for name, array in graph.arrays.items()]
    whole = helper.make_graph(graph.nodes, "hebbcore", described(inputs), described(outputs), arrays)
    proto = helper.make_model(
        whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="hebbcore",
        producer_version=__version__,
    )  # fmt: skip
    if proto.ByteSize() >= _MOST_BYTES:
        raise ValueError("export.onnx: the model has 2 GiB or more, which no ONNX file of one piece holds.")
    checker.check_model(proto, full_check=True)
    return proto


def metadata_of(function: str, model: Network | HebbianLayer | Model) -> dict[str, str]:
    """Return what a file says of a model."""
    described = checkpoint.describe(function, model.network if isinstance(model, Model) else model)
    tables = [table["rule"] for table in flat(described.get("layers", [described])) if "rule" in table]
    found = {"version": __version__, "rule": ", ".join(dict.fromkeys(table["name"] for table in tables))}
    if isinstance(model, Model):
        found["classes"] = json.dumps(list(model.classes))
    return {**found, "model": checkpoint.as_json(described)}


def _with_more(function: str, own: dict[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return what a file says of its model, and what the user says besides."""
    if not isinstance(more, Mapping):
        raise checks.wrong(TypeError, function, "metadata", f"must be a mapping of texts, got {more!r}.")
    for pair in more.items():
        if not all(isinstance(text, str) and is_unicode(text) for text in pair):
            problem = f"must be texts in Unicode by their names, which are texts too, got {pair[0]!r}: {pair[1]!r}."
            raise checks.wrong(TypeError, function, "metadata", problem)
        if pair[0] in own:
            problem = f"must have other names than {', '.join(own)}, which say what the file is; got {pair[0]!r}."
            raise checks.wrong(ValueError, function, "metadata", problem)
    return {**own, **more}


def _add_metadata(proto: Any, texts: Mapping[str, str]) -> None:
    from onnx import helper

    helper.set_model_props(proto, dict(texts))
