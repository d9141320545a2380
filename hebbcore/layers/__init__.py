"""Layers of networks, by kind."""

from hebbcore.layers.base import Layer, Shape, Site
from hebbcore.layers.batch_norm import BatchNorm
from hebbcore.layers.branches import Branches
from hebbcore.layers.conv import Conv
from hebbcore.layers.dense import Dense
from hebbcore.layers.flatten import Flatten
from hebbcore.layers.gaussian_pool import GaussianPool
from hebbcore.layers.grid_pool import GridPool
from hebbcore.layers.hebbian import WORKSPACE, HebbianLayer
from hebbcore.layers.learner import Learner
from hebbcore.layers.nystrom import Nystrom
from hebbcore.layers.pool import Pool
from hebbcore.layers.power import Power
from hebbcore.layers.relu import Relu
from hebbcore.layers.scale import Scale
from hebbcore.layers.split import Split
from hebbcore.layers.triangle import Triangle
from hebbcore.layers.whiten import Whiten

__all__ = [
    "LAYERS",
    "WORKSPACE",
    "BatchNorm",
    "Branches",
    "Conv",
    "Dense",
    "Flatten",
    "GaussianPool",
    "GridPool",
    "HebbianLayer",
    "Layer",
    "Learner",
    "Nystrom",
    "Pool",
    "Power",
    "Relu",
    "Scale",
    "Shape",
    "Site",
    "Split",
    "Triangle",
    "Whiten",
]

LAYERS: dict[str, type[Layer]] = {
    "conv": Conv,
    "dense": Dense,
    "pool": Pool,
    "gridpool": GridPool,
    "gaussianpool": GaussianPool,
    "batchnorm": BatchNorm,
    "scale": Scale,
    "triangle": Triangle,
    "relu": Relu,
    "split": Split,
    "power": Power,
    "whiten": Whiten,
    "nystrom": Nystrom,
    "flatten": Flatten,
    "branches": Branches,
}
