"""Hebbian learning on raw arrays: exact rules, batched updates by matrix products, on the CPU and on CUDA."""

from hebbcore.backend import Device, devices, namespace, to_device
from hebbcore.competition import Gate, Norms, argmax_wta, k_wta, softmax_wta
from hebbcore.layers import HebbianLayer
from hebbcore.patches import im2col
from hebbcore.rules import HPCA, KWTA, RULES, SWTA, HardWTA, Krotov, Rule, SoftHebb
from hebbcore.training import Step, train_layer, weight_update

__version__ = "0.1.0"

__all__ = [
    "HPCA",
    "KWTA",
    "RULES",
    "SWTA",
    "Device",
    "Gate",
    "HardWTA",
    "HebbianLayer",
    "Krotov",
    "Norms",
    "Rule",
    "SoftHebb",
    "Step",
    "argmax_wta",
    "devices",
    "im2col",
    "k_wta",
    "namespace",
    "softmax_wta",
    "to_device",
    "train_layer",
    "weight_update",
]
