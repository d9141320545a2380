"""Layers of networks, by kind."""

from hebbcore.layers.base import Layer, Shape, Site
from hebbcore.layers.batch_norm import BatchNorm
from hebbcore.layers.hebbian import WORKSPACE, HebbianLayer, fit_images, flat
from hebbcore.layers.learner import Conv, Dense, Learner
from hebbcore.layers.pool import Flatten, GridPool, Pool, Power, Relu, Split, Triangle
from hebbcore.layers.whiten import Whiten

__all__ = [
    "LAYERS",
    "WORKSPACE",
    "BatchNorm",
    "Conv",
    "Dense",
    "Flatten",
    "GridPool",
    "HebbianLayer",
    "Layer",
    "Learner",
    "Pool",
    "Power",
    "Relu",
    "Shape",
    "Site",
    "Split",
    "Triangle",
    "Whiten",
    "fit_images",
    "flat",
]

LAYERS: dict[str, type[Layer]] = {
    "conv": Conv,
    "dense": Dense,
    "pool": Pool,
    "gridpool": GridPool,
    "batchnorm": BatchNorm,
    "triangle": Triangle,
    "relu": Relu,
    "split": Split,
    "power": Power,
    "whiten": Whiten,
    "flatten": Flatten,
}
