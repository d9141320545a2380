"""Layer by layer from a sample of patches: which they are, what is learned from them, and what it takes."""

import tracemalloc

import h5py
import numpy as np
import pytest
import reference
from conftest import SHARED
from fit_helpers import arrays, assert_same, images, network

import hebbcore
import loaders
from hebbcore import Branches, Conv, Dense, GridPool, Network, Scale, Split, Whiten, checkpoint
from hebbcore.engine import winners
from hebbcore.engine.patches import Geometry
from hebbcore.training import sample as sampling

LAYERWISE = {"mode": "layerwise", "learning_rate": 1.0}


@pytest.fixture
def samples(monkeypatch):
    """Return the list of all samples that are gathered."""
    found, gather = [], sampling.gather

    def noted(*arguments, **more):
        found.append(gather(*arguments, **more))
        return found[-1]

    monkeypatch.setattr("hebbcore.training.loop.gather", noted)
    return found


def numbered(count=10, height=5, width=6):
    """Return images in which each number is another."""
    size = (count, height, width, 2)
    return 1.0 + np.arange(np.prod(size), dtype=np.float64).reshape(size)


def taking(data, *layers, precision="float64", **options):
    """Return a network trained from a sample."""
    net = Network(layers, data[0].shape[1:] if isinstance(data, list) else data.shape[1:], precision=precision,
                  device="cpu")  # fmt: skip
    return hebbcore.fit(net, data, **LAYERWISE | options)


def places_of(sample, data, *cut):
    """Return for each patch of a sample the one image and place that it is cut from."""
    rows = {row.tobytes(): i for i, row in enumerate(reference.patches(data, *cut))}
    return np.array([rows[patch.tobytes()] for patch in sample.patches])


# Which patches


@pytest.mark.parametrize("cut", [(3,), ((2, 3), (1, 2), (1, 0)), (3, 2, 1, "reflect"), (2, 1, 1, "edge")])
@pytest.mark.parametrize("wanted", [7, 10, 33, 10_000])
def test_about_equally_many_are_of_each_image_and_all_differ(cut, wanted, samples):
    data = numbered()
    taking(data, Conv(3, *(cut[0], "kwta"), **dict(zip(("stride", "padding", "padding_mode"), cut[1:], strict=False))),
           sample=wanted, shuffle=False)  # fmt: skip
    found = places_of(samples[0], data, *cut)
    positions = len(reference.patches(data[:1], *cut))
    assert len(found) == min(wanted, len(data) * positions)
    assert len(set(found)) == len(found)
    counts = np.bincount(found // positions, minlength=len(data))
    assert counts.max() - counts.min() <= 1
    assert samples[0].images == len(data)


def test_the_places_are_drawn_by_the_seed_and_the_layer(samples):
    data = numbered()
    for seed in (0, 0, 1):
        taking(data, Conv(3, 2, "kwta"), Conv(3, 1, "kwta"), sample=20, shuffle=False, seed=seed)
    first, again, other = (places_of(sample, data, 2) for sample in samples[::2])
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.max() < len(data) * 20  # and the second layer's are others
    assert samples[1].patches.shape == (20, 1, 1, 3)


def test_they_are_of_the_first_images_of_a_pass(samples):
    data = numbered()
    taking(data, Conv(3, 2, "kwta"), sample=12, statistics_images=3, batch_size=2, shuffle=False)
    assert set(places_of(samples[0], data, 2) // 20) == {0, 1, 2}
    taking(data, Conv(3, 2, "kwta"), sample=12, statistics_images=3, batch_size=2, seed=5)
    order = np.random.default_rng(5).spawn(2)[1].permutation(len(data))[:3]
    assert set(places_of(samples[1], data, 2) // 20) == set(order)


class Nameless:
    """Batches that nobody knows the number of."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_an_array_and_its_batches_give_the_same_sample(samples, tmp_path):
    data = images(30, np.uint8)
    loaders.write_shards((data, np.zeros(30, int)), tmp_path, shard_bytes=1000)
    parts = [data[:8], data[8:11], data[11:16], data[16:]]
    with loaders.ShardStream(tmp_path, batch_size=7, shuffle=False) as stream:
        for source in (data, parts, Nameless(parts), Nameless([(part, None) for part in parts]), stream):
            options = {"shuffle": False, "batch_size": 4} if source is data else {}
            net = Network([Conv(3, 2, "kwta")], (7, 7, 2), device="cpu")
            hebbcore.fit(net, source, sample=50, statistics_images=20, **LAYERWISE | options)
    for sample in samples:
        np.testing.assert_array_equal(sample.patches, samples[0].patches)
        assert (sample.patches.dtype, sample.patches.shape, sample.images) == (np.float32, (50, 2, 2, 2), 20)


def test_each_layer_of_branches_has_its_own_sample(samples):
    data = images(12)
    net = taking(
        data,
        Branches(
            [Whiten(2), Conv(4, 1, "signedwta"), Scale(), Split(), GridPool(2)], [Conv(3, 3, "kwta"), GridPool(2)]
        ),
        Dense(2, "kwta"),
        sample=40,
        epochs=2,
    )
    assert [sample.patches.shape for sample in samples] == [(40, 1, 1, 8), (40, 3, 3, 2), (12, 1, 1, 4 * 11)]
    shuffled = np.random.default_rng(0).spawn(2)[1]
    orders = [shuffled.permutation(12) for _ in range(7)]
    np.testing.assert_allclose(
        samples[2].patches[:, 0, 0], net.transform(data[orders[6]], net.names[-2]).reshape(12, -1)
    )


# What is learned


def spherical_means(rows, units, passes, signed):
    """Return the units (K, D) of k-means among directions after some passes; signed: of both signs (gain-shape VQ)."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    for _ in range(passes):
        scores = rows @ units.T
        winner = (abs(scores) if signed else scores).argmax(axis=1)
        for k in range(len(units)):
            won = rows[winner == k]
            if len(won):
                total = (scores[winner == k, k, None] * won if signed else won).sum(axis=0)
                units[k] = total / np.linalg.norm(total)
    return units


@pytest.mark.parametrize("workspace", ["256 MiB", "16 KiB"])
@pytest.mark.parametrize(("rule", "signed"), [("kwta", False), ("signedwta", True)])
def test_at_rate_1_an_epoch_is_a_pass_of_spherical_k_means(rule, signed, workspace):
    data = np.random.default_rng(1).normal(size=(20, 7, 7, 2))
    start = np.random.default_rng(2).normal(size=(6, 3, 3, 2))
    rows = reference.patches(data, 3, 1, 1)
    for passes in (1, 2, 5):
        layer = Conv(6, 3, rule, padding=1, normalize_patches=True)
        net = Network([layer], (7, 7, 2), precision="float64", device="cpu", workspace=workspace)
        layer.weights = start
        hebbcore.fit(net, data, sample=10**6, epochs=passes, **LAYERWISE)
        found = layer.weights.reshape(6, -1)
        expected = spherical_means(rows, start.reshape(6, -1), passes, signed)
        np.testing.assert_allclose(found / np.linalg.norm(found, axis=1, keepdims=True), expected, atol=1e-10)


@pytest.mark.parametrize("start", ["patches", "k-means++"])
def test_units_start_from_the_sample(start, samples):
    data = images(20)
    layer = Conv(30, 2, "kwta", initial_weights=start, learning_rate=1e-12)
    taking(data, layer, sample=40, learning_rate=None)
    rows = samples[0].patches.reshape(40, -1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    units = layer.weights.reshape(30, -1)
    nearest = (units / np.linalg.norm(units, axis=1, keepdims=True)) @ rows.T
    assert (nearest.max(axis=1) > 1 - 1e-9).all()
    assert len(set(nearest.argmax(axis=1))) == 30


def test_a_conscience_and_revivals_know_who_wins_the_sample():
    data = images(40)
    plain, fair = (
        taking(data, Conv(12, 3, "kwta", conscience=c, revival=r), sample=900, epochs=6)
        for c, r in ((0.0, 0.0), (0.3, 4.0))
    )  # fmt: skip
    rows = reference.patches(data, 3)
    most = [
        np.bincount((rows @ directions(net["conv1"].weights.reshape(12, -1)).T).argmax(axis=1), minlength=12)
        for net in (plain, fair)
    ]
    assert most[1].std() < most[0].std()


def directions(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_winners_are_counted_in_pieces(tune):
    tune(watched_patches=7)
    generator = np.random.default_rng(0)
    rows, weights = generator.normal(size=(1000, 6)), generator.normal(size=(3, 6))
    g = Geometry.of("test", (1, 2, 3, 1), (2, 3), 1, 0, "zeros")
    rule = hebbcore.KWTA()
    found = winners.count_sample(rule, rows.reshape(-1, 2, 3, 1), g, weights)
    some = rows[::21]  # 16 a unit: 48 of 1,000, evenly spread
    np.testing.assert_array_equal(found, winners.wins(rule, some @ weights.T / np.linalg.norm(weights, axis=1)))
    assert found.sum() == len(some)


def cifar():
    path = SHARED / "data" / "cifar10.h5"
    if not path.exists():
        pytest.skip(f"needs {path}")
    with h5py.File(path) as file:
        return file["train/images"][:200]


def dictionary_layer():
    return Conv(40, 1, "signedwta", normalize_patches=True, initial_weights="patches")


def test_each_pass_brings_units_nearer_to_real_patches(samples):
    data, fits = cifar(), []
    for passes in (1, 2, 6):
        layer = dictionary_layer()
        taking([data[:130], data[130:]], Whiten(6), layer, sample=2000, epochs=passes, precision="float32")
        rows = directions(samples[-1].patches.reshape(2000, -1))
        fits.append(np.abs(rows @ directions(layer.weights.reshape(40, -1)).T).max(axis=1).mean())
    assert fits[0] < fits[1] < fits[2]
    taking(data, Whiten(6), dictionary_layer(), sample=2000, precision="float32", shuffle=False, batch_size=64)
    np.testing.assert_allclose(samples[-1].patches, samples[0].patches, atol=1e-4)


def test_cuda_takes_the_sample_and_learns_what_the_cpu_does():
    cupy = pytest.importorskip("cupy")
    data = images(40, np.uint8)
    layers = ([Conv(8, 3, "kwta", padding=1, normalize_patches=True, initial_weights="k-means++", conscience=0.1),
               Scale(), Conv(5, 3, "signedwta", padding=1, initial_weights="patches")] for _ in range(3))  # fmt: skip
    here, there, streamed = (
        Network(each, (7, 7, 2), precision="float64", device=device)
        for each, device in zip(layers, ("cpu", "cuda", "cuda"), strict=True)
    )
    for net, given in ((here, data), (there, cupy.asarray(data)), (streamed, data)):
        hebbcore.fit(net, given, sample=700, epochs=3, **LAYERWISE)
    for net in (there, streamed):
        for name, layer in here.learners.items():
            np.testing.assert_allclose(net[name].weights.get(), layer.weights, rtol=0, atol=1e-8)


# What it takes


def test_no_more_is_held_than_the_sample_and_the_work_of_a_batch():
    data = np.random.default_rng(0).integers(0, 256, (400, 16, 16, 3), np.uint8)
    layers = [Conv(units, 3, "kwta", padding=1, initial_weights="patches") for units in (96, 8)]
    net = Network(layers, (16, 16, 3), device="cpu", workspace="4 MiB")
    maps, held = 400 * 16 * 16 * 96 * 4, 3000 * 9 * 96 * 4
    hebbcore.fit(net, data[:40], sample=500, batch_size=8, **LAYERWISE)  # compiles
    tracemalloc.start()
    hebbcore.fit(net, data, sample=3000, batch_size=8, **LAYERWISE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < held + 14 * 2**20
    assert peak < maps * 2 / 3


def test_images_are_counted_once_for_the_sample_and_once_an_epoch(tmp_path):
    records = []
    taking(images(10), Conv(3, 2, "kwta"), Dense(2, "kwta"), sample=30, epochs=2, statistics_images=6, log_seconds=1e6,
           callback=records.append)  # fmt: skip
    assert all(layer["change"] > 0 for record in records for layer in record["layers"].values())
    assert [record["images"] for record in records] == [12, 18, 30, 36]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["seconds_left"] == 0
    assert [*records[0]["layers"]] == ["conv1"]
    assert records[0]["layers"]["conv1"]["winners"] == 30
    assert all("pass_dead" in layer for record in records for layer in record["layers"].values())


def test_a_bar_shows_the_sampling(capsys):
    taking(images(10), Conv(3, 2, "kwta"), sample=30, epochs=2, progress=True)
    shown = capsys.readouterr().err
    assert "sampling conv1" in shown
    assert "30.0/30.0" in shown


# What is refused, and what must agree


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 5}, 'sample=5 has no effect: it is for mode="layerwise"'),
        ({**LAYERWISE, "sample": 5, "cache": "memory"}, "cache='memory' has no effect with sample=5: .*; leave it out"),
        ({"sample": 0, "mode": "layerwise"}, "sample must be at least 1"),
    ],
)
def test_what_has_no_effect_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hebbcore.fit(network(), images(), **options)


def test_a_run_goes_on_with_the_same_sample_only(tmp_path):
    data = [images(6), images(4, seed=2)]
    options = {**LAYERWISE, "run": tmp_path, "learning_rate": 0.1}
    trained = arrays(hebbcore.fit(network(), data, sample=30, seed=4, **options))
    assert_same(arrays(hebbcore.fit(network(), data, sample=30, seed=4, **options)), trained)
    with pytest.raises(ValueError, match=r"training.sample is 31 here and 30 there"):
        hebbcore.fit(network(), data, sample=31, seed=4, **options)
    with pytest.raises(ValueError, match=r"training.seed is 0 here and 4 there"):
        hebbcore.fit(network(), data, sample=30, **options)


def test_schedules_go_by_epochs_and_need_no_length():
    data = images(10)
    one = taking([data], Conv(3, 2, "kwta"), sample=30, epochs=4, schedule="linear")
    other = taking([data[:6], data[6:]], Conv(3, 2, "kwta"), sample=30, epochs=4, schedule="linear")
    assert_same(arrays(one), arrays(other))
    nameless = Network([Conv(3, 2, "kwta")], (7, 7, 2), precision="float64", device="cpu")
    hebbcore.fit(nameless, Nameless([data]), sample=30, epochs=4, schedule="linear", **LAYERWISE)
    assert_same(arrays(nameless), arrays(one))


def test_a_run_with_a_schedule_that_lowered_nothing_goes_on_without_it(tmp_path):
    run = tmp_path / "run"
    expected = arrays(taking(images(10), Conv(3, 2, "kwta"), sample=30, run=run))
    path = checkpoint.checkpoints(run)[0]  # of before the step
    header, kept = checkpoint.read("test", path)
    header["training"]["schedule"] = "linear"  # as earlier versions took it
    for other in checkpoint.checkpoints(run):
        other.unlink()
    checkpoint.write(path, header, kept)
    assert_same(arrays(taking(images(10), Conv(3, 2, "kwta"), sample=30, run=run)), expected)
