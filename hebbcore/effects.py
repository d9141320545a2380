"""Settings of a training that would change nothing: told, with the way that works."""

from typing import Any

from hebbcore.network import Network
from hebbcore.phases import phases_of

RATE = 1e-3  # of a training; it stands in the files of older runs, whether it was used or not


def without_effect(settings: Any, network: Network) -> str | None:
    """Return which of fit's settings, if any, does nothing for this network, and what to do; a default never counts.

    settings: a Training. network: with weights or without.
    """
    default = type(settings)()
    if settings.cache != "none" and settings.mode == "together":
        return 'cache is for mode="layerwise": learning together keeps no outputs; leave it out, or change mode.'
    if settings.cache == "none" and settings.cache_bytes != default.cache_bytes:
        return 'cache_bytes bounds a cache, and cache is "none"; set cache to "memory" or "disk", or leave it out.'
    if settings.statistics_images != default.statistics_images:
        phases = phases_of("fit", network, settings.mode, settings.epochs, settings.statistics_images, ())
        if not any(phase.observes for phase in phases):
            return (
                "statistics_images is for layers with a pass of their own, Whiten and (layer by layer) BatchNorm; this "
                "network has none; leave it out."
            )
    if settings.schedule == "epochs" and settings.epochs == 1:
        return (
            'schedule "epochs" lowers the rates after each epoch, and there is one; take "linear" or "cosine", or more '
            "epochs."
        )
    rates = [layer.learning_rate for layer in network.learners.values()]
    if settings.learning_rate not in (None, RATE) and None not in rates:
        return (
            "learning_rate is for layers without a rate of their own, and every layer has one; set theirs "
            "(network.layers.conv1.learning_rate in a configuration), or leave it out."
        )
    return None
