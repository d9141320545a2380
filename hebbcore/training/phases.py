"""In which order the layers of a network learn."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from hebbcore.layers import Learner
from hebbcore.network import Network

MODES = ("together", "layerwise")
SCHEDULES = ("constant", "linear", "cosine", "epochs")


@dataclass(frozen=True)
class Phase:
    """Passes over the data in which some layers learn, or one of them observes.

    Attributes
    ----------
    targets : tuple of int
        Those layers, by index.
    observes : bool
        Whether the one layer observes.
    epochs : int
        Passes.
    images : int or None
        The most of a pass that is looked at; None: all.
    together : bool
        Whether all layers learn from one forward pass.
    sample : int or None
        Of how many patches of those images the one layer learns, all at once in each epoch; None: of the images.
    """

    targets: tuple[int, ...]
    observes: bool
    epochs: int
    images: int | None
    together: bool = False
    sample: int | None = None


def whitened(network: Network) -> list[int]:
    """Return the layers, by index, that have learned in a pass of their own: later weights know them so."""
    return [i for i, layer in enumerate(network.layers) if getattr(layer, "learned", False)]


def phases_of(
    function: str,
    network: Network,
    mode: str,
    epochs: int,
    statistics_images: int,
    done: Collection[int],
    sample: int | None = None,
) -> list[Phase]:
    """Return the phases of a training.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    network : Network
        What is trained.
    mode, epochs, statistics_images
        As in fit.
    done : collection of int
        Layers, by index, that do not observe any more.
    sample : int or None
        As in fit.

    Raises
    ------
    ValueError
        If the network cannot be trained so.
    """
    learners = tuple(i for i, layer in enumerate(network.layers) if isinstance(layer, Learner))
    if not learners:
        raise ValueError(f"{function}: the network has no layer with a rule (Conv or Dense): nothing to learn.")
    if mode == "layerwise":
        most = None if sample is None else statistics_images
        return [
            Phase((i,), True, 1, statistics_images)
            if layer.observes
            else Phase((i,), False, epochs, most, sample=sample)
            for i, layer in enumerate(network.layers)
            if (layer.observes or i in learners) and i not in done
        ]
    before = [
        i
        for i, layer in enumerate(network.layers)
        if layer.observes and not layer.in_place and not set(learners) & set(network.graph.upstream(i))
    ]
    for i, layer in enumerate(network.layers):
        if layer.observes and not layer.in_place and i not in before:
            raise ValueError(
                f"{function}: {layer.name} comes after layers that learn, and cannot take statistics of what is still "
                'changing; use mode="layerwise", or put it first.'
            )
    new = [i for i in before if i not in done]
    for i in sorted(set(new) - set(whitened(network))):
        moving = [j for j in network.graph.upstream(i) if network.layers[j].observes and network.layers[j].in_place]
        if moving:
            raise ValueError(
                f"{function}: {network.names[i]} comes after {network.names[moving[0]]}, and cannot take statistics of "
                f'what it still changes; use mode="layerwise", or put {network.names[i]} first.'
            )
    return [Phase((i,), True, 1, statistics_images) for i in new] + [Phase(learners, False, epochs, None, True)]


def factor(schedule: str, epoch: int, epochs: int, done: float) -> float:
    """Return what the learning rate is multiplied by.

    Parameters
    ----------
    schedule : str
        One of SCHEDULES; "epochs" is 1 − epoch / epochs, as in Krotov & Hopfield (2019).
    epoch, epochs : int
        The present epoch, from 0, of so many.
    done : float
        The part of all steps that lies behind, 0…1.
    """
    if schedule == "linear":
        return max(0.0, 1 - done)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    if schedule == "epochs":
        return 1 - epoch / epochs
    return 1.0
