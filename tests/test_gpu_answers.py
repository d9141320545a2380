"""What rules of one's own answer on a GPU: views that cuBLAS does not read as they are."""

import numpy as np
import pytest

import hebbcore

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")

VIEWS = {
    "every other column": lambda xp, a: xp.concatenate([a[:, :, None], -a[:, :, None]], axis=2)[:, :, 0],
    "columns backwards": lambda xp, a: xp.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "rows backwards": lambda xp, a: xp.ascontiguousarray(a[::-1])[::-1],
    "a column for all": lambda xp, a: xp.broadcast_to(a[:, :1], a.shape),
    "a row for all": lambda xp, a: xp.broadcast_to(a[:1], a.shape),
    "transposed": lambda xp, a: xp.ascontiguousarray(a.T).T,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("of", ["values", "pair", "projection"])
def test_views_mean_on_cuda_what_they_mean_on_the_cpu(of, view, generator):
    """The memory behind them was read, whatever lay there."""

    def seen(array, name):
        return VIEWS[view](hebbcore.namespace(array), array) if of == name else array

    class Mine(hebbcore.Rule):
        pairs = True

        def projection(self, weights):
            return seen(weights, "projection")

        def gate(self, scores, norms):
            left = seen(0.1 * scores, "pair")
            return hebbcore.Gate(seen(scores, "values"), pair=hebbcore.Pair(left, scores, lower=False))

    images, weights = generator.normal(size=(20, 12)), generator.normal(size=(5, 12))
    here = hebbcore.weight_update(images, weights, Mine())
    there = hebbcore.weight_update(cupy.asarray(images), cupy.asarray(weights), Mine())
    np.testing.assert_allclose(there.get(), here, rtol=1e-10, atol=1e-10)
    layer = hebbcore.HebbianLayer(cupy.asarray(weights), Mine(), precision="float64")
    outputs = layer.transform(cupy.asarray(images)).get()
    np.testing.assert_allclose(outputs, layer.to_device("cpu").transform(images), rtol=1e-10, atol=1e-10)
