"""Pictures of a training: filters with Pillow, curves with Matplotlib (extra "plot")."""

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices
from hebbcore.engine.finite import first_not_finite
from hebbcore.files import write_bytes
from hebbcore.network import Network
from hebbcore.runs.compare import layers_of, records_of
from hebbcore.training.diagnostics import Record

CURVES = (
    ("change", "‖step‖ / ‖weights‖", "log"),
    ("norm_mean", "mean norm of the units", "linear"),
    ("dead", "units that won nothing meanwhile", "linear"),
    ("entropy", "entropy of the winners, bits", "linear"),
)

_LEGEND = 160  # letters in a row


def save_filters(weights: Any, path: str | os.PathLike[str]) -> None:
    """Draw filters as a grid of images, each stretched to its own range.

    Parameters
    ----------
    weights : numpy.ndarray
        Filters, (units, height, width, 1 or 3), such as first_filters returns.
    path : path
        File to write, a PNG.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError, TypeError
        See filters_png.
    """
    write_bytes(Path(path), filters_png(weights))


def filters_png(weights: Any, columns: int = 12, scale: int = 6) -> bytes:
    """Return the picture of save_filters.

    Parameters
    ----------
    weights : numpy.ndarray
        Filters, (units, height, width, 1 or 3).
    columns : int
        How many filters stand in a row.
    scale : int
        Pixels of the picture for a pixel of a filter, in each direction.

    Returns
    -------
    bytes
        The bytes of a PNG.

    Raises
    ------
    ValueError, TypeError
        For weights of another shape or without a number, and for numbers that are not finite.
    """
    from PIL import Image

    weights = devices.to_device(backend.as_array("filters_png", "weights", weights), "cpu")
    if weights.ndim != 4 or weights.shape[3] not in (1, 3):
        problem = (
            f"must be filters (units, height, width, 1 or 3), got shape {weights.shape}; first_filters(network) gives "
            "those of a network."
        )
        raise checks.wrong(ValueError, "filters_png", "weights", problem)
    if not weights.size:
        raise checks.wrong(ValueError, "filters_png", "weights", f"must not be empty, got shape {weights.shape}.")
    weights = weights.astype(np.float64)
    unit = first_not_finite(weights)
    if unit is not None:
        raise checks.wrong(ValueError, "filters_png", "weights", f"must be finite, but weights[{unit}] are not.")
    low, high = weights.min(axis=(1, 2, 3), keepdims=True), weights.max(axis=(1, 2, 3), keepdims=True)
    tiles = (255 * (weights - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)
    tiles = np.broadcast_to(tiles, (*tiles.shape[:3], 3)).repeat(scale, axis=1).repeat(scale, axis=2)
    units, height, width, _ = tiles.shape
    rows = -(-units // columns)
    grid = np.full((rows * (height + 2) + 2, columns * (width + 2) + 2, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = 2 + i // columns * (height + 2), 2 + i % columns * (width + 2)
        grid[y : y + height, x : x + width] = tile
    file = io.BytesIO()
    Image.fromarray(grid).save(file, "PNG")
    return file.getvalue()


def first_filters(network: Network) -> Any:
    """Return the weights of the first layer whose units are filters on images, such as of the dictionary's wide branch.

    The units of a layer that sees whitened patches are returned as the patches, before whitening, that they answer to.

    Parameters
    ----------
    network : hebbcore.Network
        A network with weights.

    Returns
    -------
    numpy.ndarray or None
        Filters, (units, height, width, 1 or 3); None if no weights are filters on images of 1 or 3 channels.
    """
    assert network.image_shape is not None
    if len(network.image_shape) != 3 or network.image_shape[2] not in (1, 3):
        return None
    for name, layer in network.learners.items():
        before = [network.layers[i] for i in network.graph.upstream(network.index_of("plot", name))]
        found = _filters(layer, before, network.image_shape[2])
        if found is not None:
            return found
    return None


def _filters(layer: Any, before: list[Any], channels: int) -> Any:
    """Return a layer's weights as first_filters does, None if they are no filters. before: what makes its input."""
    from hebbcore.layers import Conv, Learner, Whiten

    if not isinstance(layer, Conv) or any(isinstance(other, Learner) for other in before):
        return None
    weights = devices.to_device(layer.weights, "cpu")
    whiten = next((other for other in before if isinstance(other, Whiten)), None)
    if whiten is None:
        return weights if weights.shape[3] == channels else None
    if whiten.kernel_size is None or layer.kernel_size != (1, 1):
        return None
    matrix = devices.to_device(whiten.matrix, "cpu")
    patches = (channels * math.prod(whiten.kernel_size), weights.shape[3])
    if matrix.shape != patches:  # a Split lies before or behind, say
        return None
    return (weights.reshape(len(weights), -1) @ matrix.T).reshape(len(weights), *whiten.kernel_size, channels)


def save_curves(run: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Draw what a run's metrics tell about each layer, against the images seen.

    Parameters
    ----------
    run : path
        Folder of the run.
    path : path
        File to write, a PNG.

    Raises
    ------
    ModuleNotFoundError
        Matplotlib is missing.
    ValueError
        The run has no metrics, or a damaged record.
    """
    figure = _figure((12, 8))
    records = records_of("plot", Path(run))
    axes: Any = figure.subplots(2, 2)
    for (key, title, scale), axis in zip(CURVES, axes.ravel(), strict=True):
        for name in layers_of(records):
            _draw(axis, records, name, key, label=_label(name))
        axis.set(title=title, xlabel="images", yscale=scale)
        axis.grid(alpha=0.3)
    axes[0, 1].legend()  # the norms are in every record; a change is measured every log_seconds only
    _save(figure, path)


def save_comparison(runs: Mapping[str, str | os.PathLike[str]], path: str | os.PathLike[str]) -> None:
    """Draw the curves of several runs over each other, in a row of pictures for each layer; see save_curves.

    Parameters
    ----------
    runs : mapping of str to path
        Folders of the runs, by the names that the legend shows.
    path : path
        File to write, a PNG.

    Raises
    ------
    ModuleNotFoundError
        Matplotlib is missing.
    ValueError
        There is no run, or one has no metrics or a damaged record.
    """
    if not runs:
        raise ValueError("plot: runs names no run; give one at least.")
    all_records = {name: records_of("plot", Path(run)) for name, run in runs.items()}
    layers = layers_of(record for records in all_records.values() for record in records)
    columns = max(1, _LEGEND // max(map(len, runs)))
    figure = _figure((4 * len(CURVES), 0.4 + 2.7 * len(layers) + 0.2 * -(-len(runs) // columns)))
    axes: Any = figure.subplots(len(layers), len(CURVES), squeeze=False)
    colors = _colors(list(runs))
    for row, layer in zip(axes, layers, strict=True):
        for (key, title, scale), axis in zip(CURVES, row, strict=True):
            for name, records in all_records.items():
                _draw(axis, records, layer, key, color=colors[name])
            axis.set(title=f"{layer}: {title}", xlabel="images", yscale=scale)
            axis.grid(alpha=0.3)
    figure.legend(handles=_handles(colors), loc="outside lower center", ncols=min(columns, len(runs)))
    _save(figure, path)


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    file = io.BytesIO()
    figure.savefig(file, dpi=120, format="png")
    write_bytes(Path(path), file.getvalue())


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('plot: curves need Matplotlib; install hebbcore with the extra "plot".') from error
    return Figure(figsize=size, layout="constrained")


def _colors(names: list[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    if len(names) <= 10:  # Matplotlib's cycle
        return {name: f"C{i}" for i, name in enumerate(names)}
    return {name: colormaps["turbo"](i / (len(names) - 1)) for i, name in enumerate(names)}


def _handles(colors: dict[str, Any]) -> list[Any]:
    """Return what a legend shows of each run, whichever pictures it is in."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=color, label=_label(name)) for name, color in colors.items()]


def _label(name: str) -> str:
    """Return a name as Matplotlib shows it, which leaves out those that begin with _, and reads $ as formulas."""
    return " " + name.replace("$", r"\$")


def _draw(axis: Any, records: list[Record], layer: str, key: str, **style: Any) -> None:
    """Draw one figure of a layer against the images seen."""
    points = [(r["images"], r["layers"][layer][key]) for r in records if layer in r["layers"]]
    points = [(x, y) for x, y in points if y is not None]
    if points:
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 20 else "", **style)
