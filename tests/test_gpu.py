"""The whole engine on a real GPU, against the float64 oracle. Skipped, with the reason, where none works."""

import numpy as np
import pytest
import reference
from kernel_helpers import assert_is_its_oracle

import hebbcore
from hebbcore import (
    HPCA,
    ICA,
    KWTA,
    SWTA,
    BatchNorm,
    Conv,
    Dense,
    GaussianPool,
    GridPool,
    HardWTA,
    HebbianLayer,
    Krotov,
    Network,
    Pool,
    SignedWTA,
    SoftHebb,
    Split,
    Triangle,
    Whiten,
)
from hebbcore.engine import backend
from hebbcore.engine.kernels import cpu
from hebbcore.engine.kernels.programs import PROGRAMS

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:.* won none of the:UserWarning")]

MORE = {  # than a rule as it is by default
    "hpca": [HPCA("tanh"), HPCA("identity"), HPCA("adaptive_tanh"), HPCA(scale_by_fan_in=True)],
    "ica": [ICA(True), ICA(normalized=True), ICA(True, True)],
    "swta": [SWTA(0.005), SWTA(0.05, "power")],
    "kwta": [KWTA(3)],
    "signedwta": [SignedWTA(3), SignedWTA(8)],
    "softhebb": [SoftHebb(0.5, 3.0, False, None), SoftHebb(p=2.5)],
    "hardwta": [HardWTA(p=3)],
    "krotov": [Krotov(3.0, 3, 0.2)],
}
RULES = {name: [kind(), *MORE.get(name, [])] for name, kind in hebbcore.RULES.items() if not kind.supervised}
CASES = [pytest.param(name, rule, id=repr(rule)) for name, rules in RULES.items() for rule in rules]
SMOOTH = [pytest.param(name, rule, id=repr(rule)) for name, rule in (("hpca", HPCA()), ("softhebb", SoftHebb()))]

# largest error as a part of the largest entry of ΔW: tf32 keeps 11 bits of a factor, bf16 8
TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}

SHAPES = [(1, 1), (3, 5), (7, 2), (40, 33), (64, 256), (5, 257), (3, 4100), (5000, 3)]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def close(actual, expected, precision):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual.get(), expected, rtol=0, atol=TOLERANCES[precision] * scale)


def arrays(generator, kind, dtype, units=11):
    """Return images and weights for a dense or a convolutional layer."""
    if kind == "dense":
        images, weights = generator.normal(size=(40, 23)), generator.normal(size=(units, 23))
    else:
        images, weights = generator.normal(size=(3, 8, 7, 2)), generator.normal(size=(units, 3, 2, 2))
    return images.astype(dtype), (weights / 4).astype(dtype)


def update(cupy, images, weights, rule, **options):
    return hebbcore.weight_update(cupy.asarray(images), cupy.asarray(weights), rule, **options)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "zeros", "reflect"])
@pytest.mark.parametrize(("name", "rule"), CASES)
def test_every_rule_agrees_with_the_oracle(cupy, name, rule, kind, precision, generator):
    images, weights = arrays(generator, kind, precision)
    options = {} if kind == "dense" else {"stride": (1, 2), "padding": (1, 1), "padding_mode": kind}
    actual = update(cupy, images, weights, rule, **options)
    assert isinstance(actual, cupy.ndarray)
    assert actual.dtype == precision
    close(actual, reference.weight_update(images, weights, name, **options, **vars(rule)), precision)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize(("name", "rule"), SMOOTH)
def test_reduced_precisions_agree_with_the_oracle_to_their_rounding(cupy, name, rule, precision, generator):
    images, weights = arrays(generator, "dense", "float32")
    actual = update(cupy, images, weights, rule, precision=precision)
    assert actual.dtype == np.float32
    close(actual, reference.weight_update(images, weights, name, **vars(rule)), precision)


@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "bf16"])
@pytest.mark.parametrize("blocked", [False, True])
@pytest.mark.parametrize("units", [5, 8, 13])
def test_hpca_in_gram_and_in_blocked_order(cupy, blocked, units, precision, generator, monkeypatch, tune):
    monkeypatch.setattr("hebbcore.engine.update.blocked_is_cheaper", lambda *sizes: blocked)
    tune(block_units={"cuda": 4}, gram_rows={"cuda": 4})
    images, weights = arrays(generator, "conv", "float64" if precision == "float64" else "float32", units)
    given = cupy.asarray(images)
    actual = hebbcore.weight_update(given, cupy.asarray(weights), "hpca", precision=precision)
    close(actual, reference.weight_update(images, weights, "hpca"), precision)
    np.testing.assert_array_equal(given.get(), images)


@pytest.mark.parametrize("units", [1, 300])
@pytest.mark.parametrize("name", sorted(RULES))
def test_one_unit_and_more_units_than_a_block_has_threads(cupy, name, units, generator):
    images, weights = arrays(generator, "dense", "float64", units)
    close(update(cupy, images, weights, name), reference.weight_update(images, weights, name), "float64")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (40, 700)])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_row_program_is_its_oracle(cupy, name, shape, dtype, generator):
    from hebbcore.engine.kernels import cuda

    assert_is_its_oracle(cuda, name, shape, dtype, generator, cupy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_competitions_agree_with_the_cpus(cupy, shape, dtype, generator):
    k = min(3, shape[1])
    for scores in (generator.normal(size=shape).astype(dtype), generator.integers(-2, 3, shape).astype(dtype)):
        there = cupy.asarray(scores)
        np.testing.assert_array_equal(hebbcore.k_wta(there, k).get(), hebbcore.k_wta(scores, k))
        np.testing.assert_array_equal(hebbcore.argmax_wta(there).get(), hebbcore.argmax_wta(scores))
        expected = hebbcore.softmax_wta(scores, 0.1)
        np.testing.assert_allclose(
            hebbcore.softmax_wta(there, 0.1).get(), expected, rtol=0, atol=3e-6 if dtype == np.float32 else 1e-13
        )
        np.testing.assert_array_equal(there.get(), scores)


@pytest.mark.parametrize("shape", SHAPES)
def test_gates_and_their_sums_agree_with_the_cpus(cupy, shape, generator):
    from hebbcore.engine.kernels import cuda

    scores = generator.uniform(-1, 1, shape)
    ones = (np.ones(shape[0]), np.ones(shape[1]))
    sharp, rank = np.float64(20), min(2, shape[1])
    programs = {
        "swta": lambda twin, s, p, u, m, d: twin.swta(s, p, u, sharp, False, m, d),
        "swta power": lambda twin, s, p, u, m, d: twin.swta(s, p, u, sharp, True, m, d),
        "kwta": lambda twin, s, p, u, m, d: twin.kwta(s, u, rank, d),
        "soft_hebb": lambda twin, s, p, u, m, d: twin.soft_hebb(s, sharp, True, d),
        "signed_wta": lambda twin, s, p, u, m, d: twin.signed_wta(s, u, p.astype(np.int64), d),
        "biased_signed_wta": lambda twin, s, p, u, m, d: twin.biased_signed_wta(s, p, u, u, p.astype(np.int64), d),
        "hard_wta": lambda twin, s, p, u, m, d: twin.hard_wta(s, p.astype(np.int64), d),
        "cosine_wta": lambda twin, s, p, u, m, d: twin.cosine_wta(s, u, p.astype(np.int64), d),
        "ranked": lambda twin, s, p, u, m, d: twin.ranked(s, rank, np.float64(0.4), d),
    }
    for name, program in programs.items():
        results = []
        for twin, xp in ((cpu, np), (cuda, cupy)):
            own = xp.array(scores)
            sums = [xp.zeros((twin.cells(*shape), shape[1])) for _ in range(2)]
            program(twin, own, xp.asarray(ones[0]), xp.asarray(ones[1]), *sums)
            results.append([own, *(cells.sum(axis=0) for cells in sums)])
        for here, there in zip(*results, strict=True):
            np.testing.assert_allclose(there.get(), here, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_programs_around_the_rules_agree_with_the_references(cupy, shape, dtype, generator):
    from hebbcore.engine.kernels import cuda

    exact = 1e-5 if dtype == np.float32 else 1e-12
    scores = generator.normal(size=shape).astype(dtype)
    share = dtype(1 / shape[1])

    def after(name, *arguments):
        own = cupy.asarray(scores)
        getattr(cuda, name)(own, *arguments)
        return own.get()

    assert_near(after("triangle", share, dtype(1.4)), reference.triangle(scores, 1.4), exact)
    assert_near(after("triangle", share, dtype(1)), reference.triangle(scores), exact)
    assert_near(after("contrast", share, dtype(0.3)), reference.contrast_normalised(scores, 0.3), exact)
    shift, factors = generator.normal(size=(2, shape[1])).astype(dtype)
    expected = (scores.astype(np.float64) - shift) * factors
    assert_near(after("standardize", cupy.asarray(shift), cupy.asarray(factors)), expected, exact)
    sums, squares = cupy.zeros((2, cuda.moment_cells(*shape), shape[1]), dtype)
    cuda.moments(cupy.asarray(scores), cupy.asarray(shift), sums, squares)
    gaps = scores.astype(np.float64) - shift
    assert_near(sums.sum(axis=0, dtype=np.float64).get(), gaps.sum(axis=0), exact * len(scores))
    assert_near(squares.sum(axis=0, dtype=np.float64).get(), (gaps**2).sum(axis=0), exact)


def assert_near(actual, expected, exact):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=exact * max(1e-30, np.abs(expected).max()))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_im2col_and_updates_read_every_dtype_and_order(cupy, dtype, order, generator):
    pixels = generator.integers(0, 256, (3, 9, 8, 2)).astype(np.uint8)
    images = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    there = cupy.asarray(np.asarray(images, order=order), order=order)
    for options in ({}, {"stride": 2, "padding": 1}, {"padding": (2, 1), "padding_mode": "reflect"}):
        patches = hebbcore.im2col(there, (3, 2), **options)
        assert isinstance(patches, cupy.ndarray)
        np.testing.assert_allclose(patches.get(), reference.patches(images, (3, 2), **options), rtol=1e-6)
    weights = generator.normal(size=(5, 3, 2, 2)).astype(np.float32)
    delta = hebbcore.weight_update(there, cupy.asarray(weights), "swta")
    close(delta, reference.weight_update(images, weights, "swta"), "float32")


@pytest.mark.parametrize("name", ["hpca", "swta", "softhebb"])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_transform_answers_in_the_library_of_the_images(cupy, name, kind, generator):
    images, weights = arrays(generator, kind, "float64")
    on_cpu = HebbianLayer(weights, hebbcore.RULES[name](), precision="float64")
    expected = on_cpu.transform(images)
    layer = on_cpu.to_device("cuda")
    assert isinstance(layer.weights, cupy.ndarray)
    from_numpy, from_cupy = layer.transform(images), layer.transform(cupy.asarray(images))
    assert isinstance(from_numpy, np.ndarray)
    assert isinstance(from_cupy, cupy.ndarray)
    for actual in (from_numpy, from_cupy.get(), on_cpu.transform(cupy.asarray(images)).get()):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(RULES))
def test_training_on_cuda_follows_training_on_the_cpu(cupy, name, generator):
    images = generator.normal(size=(50, 6, 6, 2))
    options = {"units": 7, "kernel_size": 3, "rule": name, "epochs": 2, "batch_size": 16, "precision": "float64"}
    here = hebbcore.train_layer(images, device="cpu", seed=1, learning_rate=0.01, **options)
    for data in (images, cupy.asarray(images)):
        there = hebbcore.train_layer(data, device="cuda", seed=1, learning_rate=0.01, **options)
        assert isinstance(there.weights, cupy.ndarray)
        np.testing.assert_allclose(there.weights.get(), here.weights, rtol=0, atol=1e-8 * np.abs(here.weights).max())


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_same_seed_gives_the_same_bits(cupy, precision, generator):
    images = generator.integers(0, 256, (300, 8, 8, 3)).astype(np.uint8)
    for name in RULES:
        first, second = (
            hebbcore.train_layer(
                images, units=40, kernel_size=3, rule=name, seed=3, learning_rate=0.01, device="cuda",
                precision=precision,
            ).weights.get()
            for _ in range(2)
        )  # fmt: skip
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.hardware
def test_work_is_queued_on_cupys_current_stream(cupy, generator):
    images, weights = arrays(generator, "conv", "float64")
    expected = reference.weight_update(images, weights, "swta")
    there, weights_there = cupy.asarray(images), cupy.asarray(weights)
    late = cupy.zeros_like(there)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        # compiles, and fills this stream's memory pool: a new allocation may wait for the GPU
        hebbcore.weight_update(late, weights_there, "swta", check_finite=False)
        stream.synchronize()
        # what runs before, on this stream only, takes long: work queued elsewhere would see zeros
        busy = cupy.ones((4096, 4096), np.float32)
        for _ in range(50):
            busy = busy @ busy * np.float32(1e-4)
        late[...] = there
        delta = hebbcore.weight_update(late, weights_there, "swta", check_finite=False)
        queued = not stream.done
    assert queued, "a step waited for the GPU"
    stream.synchronize()
    close(delta, expected, "float64")


def test_training_on_a_stream_of_ones_own(cupy, generator):
    images = generator.integers(0, 256, (512, 24, 24, 3)).astype(np.uint8)

    def trained(data):
        layer = hebbcore.train_layer(data, 32, 5, rule="swta", epochs=2, batch_size=32, device="cuda")
        network = Network([Conv(32, 5, "swta")], images.shape[1:], device="cuda")
        hebbcore.fit(network, data, epochs=2, batch_size=32)
        return layer, network["conv1"].weights.get()

    layer, expected = trained(images)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        there = cupy.asarray(images)
        results = [trained(data) for data in (images, there)]
        features = layer.to_device("cpu").transform(there)  # by threads of the CPU
        stream.synchronize()
    for other, weights in results:  # cuBLAS promises the same bits on one stream only
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(other.weights.get(), layer.weights.get(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(features.get(), layer.transform(images), rtol=0, atol=1e-4)


def test_arrays_on_different_devices_are_refused(cupy):
    images, weights = np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)
    for pair in ((cupy.asarray(images), weights), (images, cupy.asarray(weights))):
        with pytest.raises(TypeError, match="to_device"):
            hebbcore.weight_update(*pair, "hpca")


def fasthebb():
    return [
        Conv(12, 3, SWTA(0.05)), Pool(2), BatchNorm(), Conv(9, 3, "hpca", padding=1), BatchNorm(modified=True),
        Dense(20, KWTA(2)), BatchNorm(modified=True),
    ]  # fmt: skip


def softhebb():
    reflect = {"padding": 1, "padding_mode": "reflect"}
    return [
        BatchNorm(), Conv(12, 3, SoftHebb(), **reflect), Triangle(0.7), Pool(4, 2, 1),
        BatchNorm(), Conv(40, 3, SoftHebb(0.5), **reflect), Triangle(1.4), Pool(2, kind="average"),
    ]  # fmt: skip


def whitened():
    return [Whiten(3), Conv(12, 1, SWTA(0.05), linear=True), Split(0.1), GaussianPool((2, 3)), GridPool(2), BatchNorm()]


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("layers", [fasthebb, softhebb, whitened])
def test_networks_on_cuda_follow_those_on_the_cpu(cupy, layers, dtype, generator):
    images = generator.integers(0, 256, (70, 12, 11, 2)).astype(np.uint8)
    images = images if dtype == np.uint8 else images / 255
    here, there, streamed = (
        Network(layers(), images.shape[1:], seed=1, precision="float64", device=device)
        for device in ("cpu", "cuda", "cuda")
    )
    for network, data in ((here, images), (there, cupy.asarray(images)), (streamed, images)):
        hebbcore.fit(network, data, epochs=2, batch_size=32, learning_rate=0.01)
    expected = here.features(images, here.names)
    for network in (there, streamed):
        for name, layer in here.learners.items():
            assert isinstance(network[name].weights, cupy.ndarray)
            assert_near(network[name].weights.get(), layer.weights, 1e-8)
        for name, feature in network.features(cupy.asarray(images), here.names).items():
            assert isinstance(feature, cupy.ndarray)
            assert_near(feature.get(), expected[name], 1e-7)
        for name, feature in network.features(images, here.names, workspace=7 * network.image_bytes()).items():
            assert isinstance(feature, np.ndarray)
            assert_near(feature, expected[name], 1e-7)


@pytest.mark.parametrize("layers", [fasthebb, softhebb, whitened])
def test_mirrored_features_on_cuda_are_those_on_the_cpu(cupy, layers, generator):
    images = generator.integers(0, 256, (30, 12, 11, 2)).astype(np.uint8)
    here, there = (
        Network(layers(), images.shape[1:], seed=1, precision="float64", device=device) for device in ("cpu", "cuda")
    )
    expected = here.features(images, here.names, mirror=True)
    for given in (images, cupy.asarray(images)):
        for name, feature in there.features(given, here.names, mirror=True).items():
            assert type(feature) is type(given)
            assert_near(cupy.asnumpy(feature), expected[name], 1e-7)


@pytest.mark.parametrize("p", [2, 3])
def test_norms_of_rows(cupy, p, generator, tune):
    matrix = generator.normal(size=(40, 33))
    tune(norm_numbers={"cpu": 100, "cuda": 100})
    found = backend.row_norms(cupy.asarray(matrix), p)
    assert_near(found.get(), backend.row_norms(matrix, p), 1e-12)


@pytest.mark.parametrize("layers", [fasthebb, softhebb, whitened])
def test_a_networks_seed_gives_the_same_bits(cupy, layers, generator):
    images = cupy.asarray(generator.integers(0, 256, (200, 12, 11, 2)).astype(np.uint8))
    first, second = (
        hebbcore.fit(Network(layers(), (12, 11, 2), seed=1, device="cuda"), images, learning_rate=0.01).transform(
            images
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.get(), second.get())
