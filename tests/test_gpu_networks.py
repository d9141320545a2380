"""Networks drawn at random learn on CUDA what they learn on the CPU."""

import random

import numpy as np
import pytest

import hebbcore
from hebbcore import (
    HPCA,
    ICA,
    KWTA,
    SWTA,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GaussianPool,
    GridPool,
    HardWTA,
    Krotov,
    Network,
    Nystrom,
    Pool,
    Power,
    Relu,
    Scale,
    SignedWTA,
    SoftHebb,
    Split,
    Triangle,
    Whiten,
)

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore")]


def drawn_rule(draw):
    of = [
        lambda: HPCA(draw.choice(["relu", "tanh", "identity", "adaptive_tanh"]), draw.random() < 0.3),
        lambda: ICA(draw.random() < 0.5, draw.random() < 0.5),
        lambda: KWTA(draw.randint(1, 3)),
        lambda: Krotov(p=draw.choice([2, 3]), rank=2),
        lambda: SWTA(draw.choice([0.02, 0.5]), draw.choice(["exp", "power"])),
        lambda: SignedWTA(draw.randint(1, 3)),
        lambda: SoftHebb(draw.choice([1.0, 0.1]), draw.choice([2, 3]), draw.random() < 0.5, draw.choice([None, 0.5])),
        lambda: HardWTA(p=draw.choice([2, 3, 2.5]), adaptive_power=draw.choice([None, 0.5])),
    ]
    return draw.choice(of)()


def drawn_learner(draw, dense=False):
    options = {
        "rule": drawn_rule(draw),
        "learning_rate": draw.choice([None, 1e-3, 1e-2]),
        "initial_weights": draw.choice(["rule", "rule", "patches", "k-means++"]),
        "conscience": draw.choice([0, 0, 0, 0.1]),
        "revival": draw.choice([0, 0, 0, 0.01]),
        "response": draw.choice(["rule", "rule", "cosine", "cosine-exp"]),
        "normalize_patches": draw.random() < 0.3,
    }
    options["linear"] = options["response"] == "rule" and draw.random() < 0.4
    if dense:
        return Dense(draw.randint(1, 9), **options)
    padding = {"padding": draw.choice([0, 0, 1, (1, 2)]), "padding_mode": draw.choice(["zeros", "reflect", "edge"])}
    return Conv(draw.randint(1, 9), drawn_pair(draw, 4), stride=drawn_pair(draw, 3), **padding, **options)


def drawn_pair(draw, most):
    return draw.choice([draw.randint(1, most), (draw.randint(1, most), draw.randint(1, most))])


def drawn_layer(draw, inside=False):
    of = [lambda: drawn_learner(draw)] * 5
    of += [
        lambda: BatchNorm(draw.random() < 0.3),
        lambda: Pool(drawn_pair(draw, 3), draw.choice([None, 1, 2]), kind=draw.choice(["max", "average"])),
        lambda: GaussianPool(drawn_pair(draw, 5)),
        lambda: GridPool(drawn_pair(draw, 3), draw.choice(["average", "max"])),
        lambda: Power(draw.choice([0.5, 1.5])),
        lambda: Relu(draw.choice([1.0, 0.5])),
        Scale,
        lambda: Split(draw.choice([0, 0.25])),
        lambda: Triangle(draw.choice([1.0, 1.4])),
        Nystrom,
        lambda: Whiten(
            draw.choice([None, 2, (2, 3)]), padding=draw.choice([0, 1]), contrast=draw.choice([None, 0.1]),
            epsilon=draw.choice([None, 1e-2]), relative=draw.random() < 0.3, components=draw.choice([None, 3]),
        ),
    ]  # fmt: skip
    if not inside:
        of += [lambda: Branches(*[[drawn_layer(draw, True), GridPool(1)] for _ in range(2)]), Flatten]
        of += [lambda: drawn_learner(draw, dense=True)]
    return draw.choice(of)()


def drawn(seed, device):
    """Return what drew a network, and the network: of the first layers that fit each other."""
    draw = random.Random(seed)
    while True:
        try:
            shape = (draw.randint(1, 12), draw.randint(1, 12), draw.randint(1, 4))
            layers = [drawn_layer(draw) for _ in range(draw.randint(1, 5))] + [drawn_learner(draw, dense=True)]
            return draw, Network(layers, shape, seed=seed, precision="float64", device=device)
        except (ValueError, TypeError):
            continue


def trained(network, images, options):
    try:
        hebbcore.fit(network, images, seed=1, **options)
    except (ValueError, FloatingPointError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_learn_on_cuda_what_they_learn_on_the_cpu(seed):
    cupy = pytest.importorskip("cupy")
    draw, here = drawn(seed, "cpu")
    there = drawn(seed, "cuda")[1]
    generator = np.random.default_rng(seed)
    images = generator.random((draw.randint(3, 30), *here.image_shape))
    if draw.random() < 0.3:
        images = (images * 255).astype(np.uint8)
    given = cupy.asarray(images) if draw.random() < 0.5 else images
    options = {"mode": draw.choice(["together", "layerwise"]), "batch_size": draw.choice([1, 3, 8, 64])}
    if options["mode"] == "layerwise" and draw.random() < 0.3:
        options["sample"] = draw.choice([10, 1000])
    refused = trained(here, images, options)
    assert trained(there, given, options) == refused
    if refused is None:
        for layer in (None, draw.choice(here.layers).name):
            expected, found = here.transform(images, layer=layer), there.transform(given, layer=layer)
            assert type(found) is type(given)
            np.testing.assert_allclose(
                cupy.asnumpy(found), expected, rtol=0, atol=1e-6 * max(np.abs(expected).max(), 1e-30)
            )
