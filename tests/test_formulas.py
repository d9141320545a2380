"""Formulas of layers: each kind has one, and what has none is refused by its name."""

import dataclasses

import numpy as np
import pytest

import hebbcore
from hebbcore import Conv, Network, Relu
from hebbcore.bridges.onnx_graph import Graph
from hebbcore.export.onnx_file import unique_names
from hebbcore.formulas import FORMULAS, Formula
from hebbcore.formulas.units import ACTIVATIONS, PROJECTIONS, RESPONSES
from hebbcore.rules.norm_seeking import NormSeekingRule


@pytest.mark.parametrize("name", hebbcore.LAYERS)
def test_a_layer_kind_has_a_formula(name):
    assert hebbcore.LAYERS[name] in FORMULAS, "enter one in hebbcore.formulas.FORMULAS"


def test_no_formula_is_left_over():
    assert set(FORMULAS) == set(hebbcore.LAYERS.values())


@pytest.mark.parametrize("name", hebbcore.RULES)
def test_the_methods_of_a_rule_have_formulas(name):
    kind = hebbcore.RULES[name]
    assert kind.projection in PROJECTIONS
    assert kind.response in RESPONSES
    assert kind.activate in ACTIVATIONS


class Odd(hebbcore.Relu):
    """A layer that has no formula."""


@dataclasses.dataclass(frozen=True)
class Sharp(hebbcore.HPCA):
    """A rule whose output has none."""

    def activate(self, scores, unit_norms):
        return super().activate(scores, unit_norms) ** 2


@dataclasses.dataclass(frozen=True)
class Slow(hebbcore.HPCA):
    """A rule that learns its own way and puts out what HPCA does."""

    def rate(self, weights, learning_rate):
        return learning_rate / 2


def test_a_layer_without_a_formula_is_named():
    network = Network([Conv(2, 3), Odd(), Relu()], (4, 4, 1), device="cpu")
    with pytest.raises(ValueError, match=r"^f: odd1 is a Odd, which has no formula; enter one in hebbcore\.formulas"):
        Formula.checked("f", network, None, False)
    assert Formula.checked("f", network, "conv1", False).shape == (2, 2, 2)


def test_a_rule_without_a_formula_is_named():
    pytest.importorskip("onnx")

    def written(rule, **options):
        formula = Formula.checked("f", Network([Conv(2, 3, rule, **options)], (4, 4, 1), device="cpu"), None, False)
        graph = Graph(unique_names())
        formula(graph, formula.arrays, graph.node("Identity", 0.0))
        return [node.op_type for node in graph.nodes]

    with pytest.raises(
        ValueError, match=r"^f: conv1: what the rule Sharp puts out has no formula: its activate is its own"
    ):
        written(Sharp())
    assert written(Sharp(), linear=True) == ["Identity", "Conv"]
    assert written(Slow()) == ["Identity", "Conv", "Relu"]


def test_what_a_formula_is_of():
    network = Network([Conv(2, 3)], device="cpu")
    with pytest.raises(ValueError, match=r"^f: the network has no weights yet"):
        Formula.checked("f", network, None, False)
    network.build((4, 4, 1))
    with pytest.raises(TypeError, match=r"^f: model must be a Network or a HebbianLayer, got Conv"):
        Formula.checked("f", network["conv1"], None, False)
    with pytest.raises(ValueError, match=r"^f: layer and mirror are for networks"):
        Formula.checked("f", network["conv1"].as_layer(), "conv1", False)
    with pytest.raises(ValueError, match=r"^f: mirror is for images"):
        Formula.checked("f", Network([Relu()], (4,), device="cpu"), None, True)


@dataclasses.dataclass(frozen=True)
class Powered(hebbcore.KWTA):
    """Units that compete by powers of weights: the responses are divided by the norms of the weights all the same."""

    p: float = 3.0
    projection = NormSeekingRule.projection


def test_responses_are_divided_by_the_norms_of_weights():
    pytest.importorskip("onnx")
    network = Network([hebbcore.Dense(2, Powered())], (3,), device="cpu")
    formula = Formula.checked("f", network, None, False)
    graph = Graph(unique_names())
    formula(graph, formula.arrays, graph.node("Identity", 0.0))
    (kernels,) = [graph.arrays[name] for node in graph.nodes if node.op_type == "MatMul" for name in node.input[1:]]
    images = np.random.default_rng(0).random((4, 3), np.float32)
    np.testing.assert_allclose(np.maximum(images @ kernels, 0), network.transform(images), rtol=1e-5, atol=1e-7)
