"""Every layer of LAYERS, by the table alone: its oracle, files, tables, a configuration, a summary."""

import tomllib

import numpy as np
import pytest
import reference

import hebbcore
from hebbcore import serialize
from hebbcore.cli import preset as toml
from hebbcore.layers.base import as_4d

EXAMPLES = [
    pytest.param(name, shape, parameters, id=f"{name} {parameters}")
    for name in hebbcore.LAYERS
    for shape, parameters in reference.layer_examples(name)
]


def learned(name, shape, parameters, generator, precision="float64"):
    """Return a network of one such layer, behind those that it needs, which has seen some images, and other images."""
    layer = serialize.layer_of({"type": name, **parameters}, "layer")
    before = [serialize.layer_of({"type": kind, **others}, "layer") for kind, others in reference.layers_before(name)]
    network = hebbcore.Network([*before, layer], shape, device="cpu", precision=precision)
    images = generator.normal(size=(6, *shape))
    if network.learners:
        hebbcore.fit(network, images, batch_size=3)
    elif layer.observes:
        layer.observe(images.reshape(6, *as_4d(shape)).astype(precision))
        layer.settle()
    return network, images[:2] + 0.1


@pytest.mark.parametrize("name", hebbcore.LAYERS)
def test_a_layer_has_an_oracle_and_examples(name):
    assert callable(reference.oracle("layers", name).output)
    assert reference.layer_examples(name)


def test_no_oracle_is_left_over():
    assert set(reference.LAYERS) == set(hebbcore.LAYERS)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("name", "shape", "parameters"), EXAMPLES)
def test_a_layer_puts_out_what_its_oracle_does_also_from_a_file(
    name, shape, parameters, precision, generator, tmp_path
):
    network, images = learned(name, shape, parameters, generator, precision)
    out, stack = network.transform(images), network.stack
    layer = stack[-1]
    given = network.transform(images, stack[-2].name) if len(stack) > 1 else images.copy()
    expected = reference.oracle("layers", name).output(given, layer.arrays(), **parameters)
    assert out.shape[1:] == expected.shape[1:] == network.shapes[-1]
    assert out.dtype == precision
    exact = 1e-10 if precision == "float64" else 1e-4
    np.testing.assert_allclose(out, expected, rtol=0, atol=exact * max(1, np.abs(expected).max()))
    hebbcore.save(tmp_path / "network.h5", network)
    back = hebbcore.load(tmp_path / "network.h5", device="cpu")
    np.testing.assert_array_equal(back.transform(images), out)
    assert back.summary() == network.summary()
    assert network.names[-1] in network.summary()


@pytest.mark.parametrize(("name", "shape", "parameters"), EXAMPLES)
def test_a_layer_survives_its_table_and_a_configuration(name, shape, parameters):
    layer = serialize.layer_of({"type": name, **parameters, "name": "it"}, "layer")
    table = serialize.layer_table("test", layer)
    assert serialize.layer_table("test", serialize.layer_of(table, "layer")) == table
    read = tomllib.loads("\n".join(toml._layer(table)))
    assert serialize.layer_table("test", serialize.layer_of(read, "layer")) == table


@pytest.mark.parametrize(("name", "shape", "parameters"), EXAMPLES)
def test_a_layer_tells_of_its_arrays_before_it_has_any(name, shape, parameters, generator):
    network, _ = learned(name, shape, parameters, generator)
    layer, given = network.layers[-1], [shape, *network.shapes][network.graph.entries[-1]]
    told = layer.arrays_for(network.site, given, observed=False)
    assert {key: (array.shape, array.dtype) for key, array in layer.arrays().items()} == told
