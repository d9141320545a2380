"""Hebbian learning on raw arrays: exact rules, batched updates by matrix products, on the CPU and on CUDA."""

from hebbcore import interrupts as interrupts  # first: it answers signals during the other imports
from hebbcore.checkpoint import save
from hebbcore.engine.backend import namespace
from hebbcore.engine.competition import Gate, Norms, Pair, argmax_wta, k_wta, softmax_wta
from hebbcore.engine.devices import Device, devices, to_device
from hebbcore.engine.group.groups import Group, Member, world
from hebbcore.engine.moments import Moments
from hebbcore.engine.patches import im2col
from hebbcore.engine.teaching import Teacher
from hebbcore.layers import (
    LAYERS,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GaussianPool,
    GridPool,
    HebbianLayer,
    Layer,
    Nystrom,
    Pool,
    Power,
    Relu,
    Scale,
    Split,
    Triangle,
    Whiten,
)
from hebbcore.loading import load
from hebbcore.network import Network
from hebbcore.presets import PRESETS, preset
from hebbcore.rules import HPCA, ICA, KWTA, RULES, SWTA, HardWTA, Krotov, Rule, SignedWTA, SoftHebb, Supervised
from hebbcore.training.change import weight_update
from hebbcore.training.layer import Step, train_layer
from hebbcore.training.network import fit
from hebbcore.version import __version__ as __version__

__all__ = [
    "HPCA",
    "ICA",
    "KWTA",
    "LAYERS",
    "PRESETS",
    "RULES",
    "SWTA",
    "BatchNorm",
    "Branches",
    "Conv",
    "Dense",
    "Device",
    "Flatten",
    "Gate",
    "GaussianPool",
    "GridPool",
    "Group",
    "HardWTA",
    "HebbianLayer",
    "Krotov",
    "Layer",
    "Member",
    "Moments",
    "Network",
    "Norms",
    "Nystrom",
    "Pair",
    "Pool",
    "Power",
    "Relu",
    "Rule",
    "Scale",
    "SignedWTA",
    "SoftHebb",
    "Split",
    "Step",
    "Supervised",
    "Teacher",
    "Triangle",
    "Whiten",
    "argmax_wta",
    "devices",
    "fit",
    "im2col",
    "k_wta",
    "load",
    "namespace",
    "preset",
    "save",
    "softmax_wta",
    "to_device",
    "train_layer",
    "weight_update",
    "world",
]
