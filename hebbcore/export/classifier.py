"""Few-label models: from features to labels and probabilities."""

from typing import Any

import numpy as np

from hebbcore.bridges.onnx_graph import Graph, Tensor
from hebbcore.classify.likeness import Likeness
from hebbcore.classify.space import Space
from hebbcore.formulas.operations import norms
from hebbcore.formulas.pointwise import flat
from hebbcore.formulas.pools import grid_pool
from hebbcore.labelling.model import Model
from hebbcore.layers import GridPool
from hebbcore.texts import is_unicode, plain


def predictions(graph: Graph, model: Model, output: Tensor) -> dict[str, Any]:
    """Add what follows the output of the network, and return (dtype, sides) of the file's outputs by name.

    Raises ValueError for a class whose name no such file can hold.
    """
    for name in model.classes:
        if not is_unicode(name):
            raise ValueError(
                f"export.onnx: texts of ONNX files are Unicode, and the class {plain(name)} is none: rename it, or its "
                "folder, and classify again."
            )
    features, (arrays, settings) = model.features, model.classifier.state()
    network = features.network
    with graph.scope("classifier"):
        if features.grid is not None:
            whole = network.shapes[network.index_of("export.onnx", features.layer)]
            output = grid_pool(graph, GridPool(features.grid), output, {}, whole)
        rows = flat(graph, output, features.shape)
        likeness = Space.of(arrays).likeness
        if likeness is not None:
            rows = _likened(graph, rows, likeness)
        axes = arrays["axes"].astype(np.float64) * arrays["scale"] * arrays["eigenvalues"][:, None] ** -0.25
        rows = graph.matmul(rows - arrays["mean"], axes.T)
        rows = rows / norms(graph, rows, (1,))
        scores = (
            graph.matmul(rows, arrays["coef"] * settings["sharpness"]) + arrays["intercept"] * settings["sharpness"]
        )
        likely = graph.node("Softmax", scores, axis=1)
        graph.name_output("probabilities", likely)
        first = graph.node("ArgMax", likely, axis=1, keepdims=0)
        graph.name_output("label", graph.node("Gather", np.array(model.classes, dtype=object), first))
    return {"label": ("text", ["n"]), "probabilities": ("float32", ["n", len(model.classes)])}


def _likened(graph: Graph, rows: Tensor, likeness: Likeness) -> Tensor:
    """Return what likeness makes of features (n, f)."""
    landmarks = likeness.landmarks.astype(np.float64)
    rows = (rows - likeness.feature_mean) * likeness.feature_scale
    squares = graph.sum(rows * rows, (1,)) + (landmarks**2).sum(axis=1) - graph.matmul(rows, 2 * landmarks.T)
    like: Tensor = graph.exp(graph.at_least(squares, 0.0) * -likeness.sharpness)
    return like
