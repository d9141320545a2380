"""Pictures of a training: filters with Pillow, curves with Matplotlib (extra "plot")."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.diagnostics import Record, lines
from hebbcore.files import write_bytes
from hebbcore.fit import METRICS
from hebbcore.network import Network

CURVES = (
    ("change", "‖step‖ / ‖weights‖", "log"),
    ("norm_mean", "mean norm of the units", "linear"),
    ("dead", "units that never won", "linear"),
    ("entropy", "entropy of the winners, bits", "linear"),
)


def save_filters(weights: Any, path: Path) -> None:
    """Draw filters (units, height, width, 1 or 3) as a grid of images, each stretched to its own range."""
    write_bytes(path, filters_png(weights))


def filters_png(weights: Any, columns: int = 12, scale: int = 6) -> bytes:
    """Return the picture of save_filters as the bytes of a PNG."""
    from PIL import Image

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
    """Return the first learner's weights as filters on images (units, height, width, 1 or 3); None if they are none.

    A first layer on whitened patches is drawn as the patches that its units answer to, before whitening.
    """
    from hebbcore import backend
    from hebbcore.layers import Conv, Whiten

    assert network.image_shape is not None
    if len(network.image_shape) != 3 or network.image_shape[2] not in (1, 3):
        return None
    layer = next(iter(network.learners.values()))
    if not isinstance(layer, Conv):
        return None
    weights = backend.to_device(layer.weights, "cpu")
    before = network.layers[: network.index_of("plot", layer.name)]
    whiten = next((b for b in before if isinstance(b, Whiten)), None)
    if whiten is None:
        return weights if weights.shape[3] == network.image_shape[2] else None
    if whiten.kernel_size is None or layer.kernel_size != (1, 1):
        return None
    matrix = backend.to_device(whiten.matrix, "cpu")
    return (weights.reshape(len(weights), -1) @ matrix).reshape(
        len(weights), *whiten.kernel_size, network.image_shape[2]
    )


def save_curves(run: Path, path: Path) -> None:
    """Draw what a run's metrics tell about each layer, against the images seen.

    Raises ModuleNotFoundError if Matplotlib is missing, ValueError if there are no metrics.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('plot: curves need Matplotlib; install hebbcore with the extra "plot".') from error
    records = lines(run / METRICS)
    if not records:
        raise ValueError(f"plot: {run / METRICS} holds no metrics; train first.")
    for record in records:
        if not _is_whole(record):
            raise ValueError(f"plot: {run / METRICS}: the record of step {record['step']} is damaged; remove its line.")
    names = list(dict.fromkeys(name for record in records for name in record["layers"]))
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes: Any = figure.subplots(2, 2)
    for (key, title, scale), axis in zip(CURVES, axes.ravel(), strict=True):
        for name in names:
            points = [(r["images"], r["layers"][name][key]) for r in records if name in r["layers"]]
            points = [(x, y) for x, y in points if y is not None]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 20 else "")
        axis.set(title=title, xlabel="images", yscale=scale)
        axis.grid(alpha=0.3)
    axes[0, 1].legend()  # the norms are in every record; a change is measured every log_seconds only
    file = io.BytesIO()
    figure.savefig(file, dpi=120, format="png")
    write_bytes(path, file.getvalue())


def _is_whole(record: Record) -> bool:
    """Return True for a record that has what the curves show."""
    layers = record.get("layers")
    return (
        isinstance(record.get("images"), int)
        and isinstance(layers, dict)
        and all(isinstance(layer, dict) and all(key in layer for key, _, _ in CURVES) for layer in layers.values())
    )
