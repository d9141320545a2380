"""Layers of networks, by kind."""

from hebbcore.layers.base import Layer, Shape, Site
from hebbcore.layers.batch_norm import BatchNorm
from hebbcore.layers.hebbian import WORKSPACE, HebbianLayer, fit_images, flat
from hebbcore.layers.learner import Conv, Dense, Learner
from hebbcore.layers.pool import Flatten, Pool, Triangle
from hebbcore.layers.whiten import Whiten

__all__ = [
    "LAYERS",
    "WORKSPACE",
    "BatchNorm",
    "Conv",
    "Dense",
    "Flatten",
    "HebbianLayer",
    "Layer",
    "Learner",
    "Pool",
    "Shape",
    "Site",
    "Triangle",
    "Whiten",
    "fit_images",
    "flat",
]

LAYERS: dict[str, type[Layer]] = {
    "conv": Conv,
    "dense": Dense,
    "pool": Pool,
    "batchnorm": BatchNorm,
    "triangle": Triangle,
    "whiten": Whiten,
    "flatten": Flatten,
}
