"""Labels in fit and train_layer: supervised layers, deep teachers, images without labels."""

import os
import signal
import warnings

import numpy as np
import pytest
import reference
from loaders_helpers import make_tree
from resume_helpers import told_of_passes

import hebbcore
import loaders
from hebbcore import HPCA, ICA, KWTA, SWTA, BatchNorm, Conv, Dense, Network, Pool, fit, train_layer

LABELS = np.array([0, 1, 2, 0, -1, 1, 1, -1, 0, 0, -1, -1])  # a batch of four has no class 2, another one label only


@pytest.fixture
def images(generator):
    return generator.normal(size=(12, 6, 6, 2)).astype(np.float32)


def made(rule=None, seed=3, **options):
    layers = [
        Conv(6, 3, KWTA(2) if rule is None else rule, name="a", **options),
        Pool(2, name="pool"),
        BatchNorm(name="bn"),
        Dense(7, SWTA(0.1), name="b"),
        Dense(3, "supervised", name="last"),
    ]
    return Network(layers, (6, 6, 2), seed=seed, device="cpu", precision="float64")


def trained(images, labels=LABELS, network=None, **options):
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 0.1, "teacher": {"a": 5, "b": 6}, **options}
    return fit(made() if network is None else network, images, labels=labels, **options)


def same(one, other):
    assert one.names == other.names
    for name, layer in one.learners.items():
        np.testing.assert_array_equal(layer.weights, other[name].weights)


def masks_by_hand(labels, units, copies, classes):
    """Units of no class, and those of an image's class, learn from it; all of them if it has none."""
    masks = np.ones((len(labels), units))
    for n, label in enumerate(labels):
        for unit in range(units - copies * classes, units):
            masks[n, unit] = label < 0 or (unit - (units - copies * classes)) // copies == label
    return masks


def test_a_step_of_all_layers_is_that_of_their_oracles(images):
    network = made()
    before = {name: layer.weights.copy() for name, layer in network.learners.items()}
    inputs = {"a": images.astype(float)}
    with network.lock:
        for name in ("b", "last"):
            index = network.names.index(name)
            inputs[name] = network.run(inputs["a"], 0, index, training=True).reshape(12, -1).copy()
    network = made()
    trained(images, network=network, epochs=1, batch_size=12, shuffle=False)
    teachers = {
        "a": masks_by_hand(LABELS, 6, 1, 3),
        "b": masks_by_hand(LABELS, 7, 2, 3),
        "last": LABELS[:, None] == np.arange(3),
    }
    for (name, layer), rule in zip(network.learners.items(), ("kwta", "swta", "supervised"), strict=True):
        expected = reference.step(
            inputs[name], before[name], rule, 0.1, teacher=teachers[name], **vars(layer.rule)
        )  # fmt: skip
        np.testing.assert_allclose(layer.weights, expected, atol=1e-10)


@pytest.mark.parametrize("mode", ["together", "layerwise"])
def test_arrays_pairs_and_streams_teach_alike(images, mode):
    expected = trained(images, shuffle=False, mode=mode)
    parts = [slice(0, 4), slice(4, 8), slice(8, 12)]
    pairs = [(images[part], LABELS[part]) for part in parts]
    for data in (pairs, [list(pair) for pair in pairs], loaders.ArrayStream(images, LABELS, batch_size=4)):
        found = fit(
            made(), data, epochs=2, learning_rate=0.1, teacher={"a": 5, "b": 6}, classes=3, mode=mode
        )  # fmt: skip
        same(expected, found)


def test_shards_bring_their_labels(tmp_path):
    make_tree(tmp_path / "photos", classes=3, images=4)
    loaders.build_shards(tmp_path / "photos", tmp_path / "shards", size=12, layout="raw", workers=1)

    def network():
        return Network([Conv(6, 5, "kwta", name="a"), Pool(4), Dense(3, "supervised")], device="cpu", seed=1)

    stream = loaders.ShardStream(tmp_path / "shards", batch_size=4)
    found = fit(network(), stream, epochs=2, learning_rate=0.1, teacher={"a": 6})
    pixels = np.concatenate([pixels for pixels, _ in stream])
    options = {"batch_size": 4, "shuffle": False, "epochs": 2, "learning_rate": 0.1, "teacher": {"a": 6}}
    same(found, fit(network(), pixels, labels=stream.labels, **options))


@pytest.mark.filterwarnings("ignore:fit. no image of this pass had a label:UserWarning")
def test_without_any_label_all_but_the_supervised_layer_learn_as_without_a_teacher(images):
    found, plain, start = trained(images, np.full(12, -1)), made(), made()
    fit(plain, images, labels=np.full(12, -1), epochs=2, batch_size=4, learning_rate=0.1)
    for name in ("a", "b"):
        np.testing.assert_allclose(found[name].weights, plain[name].weights, atol=1e-12)
        assert (found[name].weights != start[name].weights).any()
    np.testing.assert_array_equal(found["last"].weights, start["last"].weights)


def test_an_absent_class_stays(images):
    found, start = trained(images, np.where(LABELS == 2, 1, LABELS)), made()
    changed = (found["last"].weights != start["last"].weights).any(axis=1)
    np.testing.assert_array_equal(changed, [True, True, False])


@pytest.mark.parametrize(
    "rule",
    [KWTA(2), SWTA(0.1), HPCA(), HPCA("adaptive_tanh", scale_by_fan_in=True), ICA(), ICA(True), ICA(normalized=True)],
    ids=repr,
)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_units_of_an_absent_class_stay_bit_for_bit(images, rule, precision):
    layers = [Conv(7, 3, rule, name="a"), Dense(3, "supervised", name="last")]
    network = Network(layers, (6, 6, 2), device="cpu", precision=precision)
    before = {name: layer.weights.copy() for name, layer in network.learners.items()}
    fit(network, images, labels=np.arange(12) % 2, teacher={"a": 6}, batch_size=5, learning_rate=0.05)
    for name, own in (("a", slice(5, 7)), ("last", slice(2, 3))):
        np.testing.assert_array_equal(network[name].weights[own].view("u1"), before[name][own].view("u1"))
        assert (
            (network[name].weights[: own.start] != before[name][: own.start])
            .any(axis=tuple(range(1, before[name].ndim)))
            .all()
        )


@pytest.mark.parametrize("mode", ["together", "layerwise"])
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(images, mode, cache, tmp_path):
    if cache == "memory" and mode == "together":
        pytest.skip("a cache is for layerwise")
    options = {"mode": mode, "cache": cache, "epochs": 3}
    whole, run = tmp_path / "whole", tmp_path / "run"
    expected = trained(images, run=whole, log_seconds=0, **options)

    class Stop(Exception):
        pass

    def stop(record):
        if record["step"] >= 7:
            raise Stop

    with pytest.raises(Stop):
        trained(images, run=run, checkpoint_minutes=1e-9, log_seconds=0, callback=stop, **options)
    same(expected, trained(images, run=run, checkpoint_minutes=1e-9, log_seconds=0, **options))
    layers, judged = told_of_passes(run)
    assert (layers, judged) == told_of_passes(whole)
    assert len(judged) == options["epochs"]
    with pytest.raises(ValueError, match=r"fit: .* holds another training: data\.labels"):
        trained(images, LABELS[::-1].copy(), run=run, **options)
    with pytest.raises(ValueError, match=r"fit: .* holds another training: training\.teacher"):
        trained(images, run=run, **options | {"teacher": {"a": 6}})


def test_a_sample_has_the_labels_of_its_images(images):
    network = made()
    trained(images, network=network, mode="layerwise", sample=10_000, epochs=1, shuffle=True)
    start = made()
    masks = masks_by_hand(LABELS, 6, 1, 3)
    expected = reference.step(images, start["a"].weights, "kwta", 0.1, teacher=masks, k=2)
    np.testing.assert_allclose(network["a"].weights, expected, atol=1e-6)
    x = start.transform(images)  # shapes only
    assert x.shape == (12, 3)


def test_the_end_of_a_pass_says_the_accuracy_of_its_labelled_images(images, tmp_path):
    records = []
    network = made()
    trained(images, network=network, epochs=2, callback=records.append, run=tmp_path, learning_rate=1e-30)
    ends = [record for record in records if "accuracy" in record]
    assert [record["epoch"] for record in ends] == [1, 2]
    assert {record["labelled"] for record in ends} == {8}
    whole = fit(made(), images, labels=LABELS, epochs=1, batch_size=12, learning_rate=1e-30, callback=records.append)
    index = whole.names.index("last")
    with whole.lock:
        scores = whole.run(images.astype(float), 0, index + 1, training=True).reshape(12, 3)
    right = (scores.argmax(axis=1) == LABELS)[LABELS >= 0].mean()
    assert records[-1]["accuracy"] == pytest.approx(right, abs=1e-6)


def test_a_network_that_ends_in_a_supervised_layer_predicts(images, tmp_path):
    network = made()
    labels = np.arange(12) % 3
    shifted = images + 2 * np.eye(3)[labels][:, :2, None, None].reshape(12, 1, 1, 2)
    trained(shifted, labels, network=network, epochs=60, learning_rate=0.05)
    found = network.predict(shifted)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, network.transform(shifted).argmax(axis=1))
    assert (found == labels).mean() > 0.9
    hebbcore.save(tmp_path / "net.h5", network)
    np.testing.assert_array_equal(hebbcore.load(tmp_path / "net.h5").predict(shifted), found)
    np.testing.assert_array_equal(network.predict(shifted.astype(np.float64).tolist()), found)
    for dtype in ("float16", "float64", ">f4"):
        assert network.predict(np.asfortranarray(shifted, dtype)).shape == (12,)
    with pytest.raises(TypeError, match=r"predict: images must be uint8 .* got int64"):
        network.predict(shifted.astype(np.int64))
    with pytest.raises(TypeError, match=r"predict: images must be an array of numbers, got ArrayStream"):
        network.predict(loaders.ArrayStream(shifted, labels, batch_size=4))
    with pytest.raises(ValueError, match=r"predict: the network has no weights yet"):
        Network([Dense(3, "supervised")], device="cpu").predict(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"predict: the network's last layer is not supervised"):
        Network([Dense(3)], (4,), device="cpu").predict(np.ones((2, 4)))


@pytest.mark.parametrize("shape", [(6, 6, 2), (4,)])
def test_images_that_are_no_numbers_get_no_class(shape, generator):
    network = Network([Dense(3, "supervised")], shape, device="cpu")
    images = generator.normal(size=(4, *shape))
    np.testing.assert_array_equal(network.predict(images), network.transform(images).argmax(axis=1))
    for value in (np.nan, -np.inf, 1e13):
        images[2].flat[1] = value
        with pytest.raises(ValueError, match=r"^predict: images must be finite .* images\[2\] is not; clean it"):
            network.predict(images)
    last = network.layers[-1]
    last.restore({"weights": last.weights * np.float32(np.nan)})
    with pytest.raises(ValueError, match=r"^predict: the network's output for images\[0\] is NaN or infinite"):
        network.predict(images[:2])


def test_a_convolution_answers_by_the_mean_over_its_positions(images):
    network = Network([Conv(3, 3, "supervised")], (6, 6, 2), device="cpu")
    np.testing.assert_array_equal(network.predict(images), network.transform(images).mean(axis=(1, 2)).argmax(axis=1))


@pytest.mark.parametrize("kernel", [None, 3])
def test_train_layer_learns_class_means(images, kernel):
    labels = np.where(LABELS == 2, 1, LABELS)
    shape = (3, 72) if kernel is None else (3, 3, 3, 2)
    start = np.random.default_rng(0).normal(size=shape)
    layer = train_layer(
        images, 3, kernel, rule=hebbcore.Supervised(), labels=labels, learning_rate=1.0, batch_size=12,
        initial_weights=start, precision="float64",
    )  # fmt: skip
    given = images.reshape(12, 72) if kernel is None else images
    expected = reference.step(given, start, "supervised", 1.0, teacher=labels[:, None] == np.arange(3))
    np.testing.assert_allclose(layer.weights, expected, atol=1e-9)
    np.testing.assert_array_equal(layer.weights[2], start[2])
    pairs = [(images, labels)]
    again = train_layer(
        pairs, 3, kernel, rule="supervised", learning_rate=1.0, initial_weights=start, precision="float64"
    )  # fmt: skip
    np.testing.assert_allclose(again.weights, expected, atol=1e-9)


MASK = {"a": 5}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"labels": None}, ValueError, "labels are needed: last learns from them"),
        ({"labels": LABELS[:-1]}, ValueError, r"labels must be one for each of the 12 images, got shape \(11,\)"),
        ({"labels": LABELS / 2}, TypeError, "labels must be integers, numbers of classes from 0, -1 for an image"),
        ({"labels": LABELS > 0}, TypeError, "labels must be integers, .* got bool"),
        ({"labels": LABELS.astype(str)}, TypeError, "labels must be an array of numbers"),
        (
            {"labels": np.full(12, 2**63, np.uint64)},
            ValueError,
            r"labels must be below 2\*\*63, got 9223372036854775808",
        ),
        (
            {"teacher": np.ones((12, 6))},
            TypeError,
            "teacher must be {layer: units} .*, got ndarray; masks are for",
        ),
        ({"labels": LABELS + 1}, ValueError, "labels must be below 3, the number of classes, got 3"),
        ({"teacher": {}}, ValueError, "teacher names no layer"),
        ({"teacher": "fasthebb-7"}, ValueError, "teacher .*Did you mean 'fasthebb-6'"),
        ({"teacher": "fasthebb-6"}, ValueError, "teacher names conv2, which is no layer that learns: those are a, b"),
        ({"teacher": ["a"]}, TypeError, "teacher must be {layer: units} or one of 'fasthebb-6'"),
        ({"teacher": {"a": 0}}, ValueError, "teacher.a must be at least 1"),
        ({"teacher": {"a": 2}}, ValueError, "teacher names a, of which 2 units are fewer than the 3 classes"),
        ({"teacher": {"a": 7}}, ValueError, "teacher names a, which has 6 units, not 7"),
        ({"teacher": {"pool": 3}}, ValueError, "teacher names pool, which is no layer that learns"),
        ({"teacher": {"last": 3}}, ValueError, "teacher names last, whose rule learns from labels without one"),
        ({"teacher": None, "classes": 3}, ValueError, "classes has no effect"),
        ({"classes": 4}, ValueError, "classes is 4, but last has 3 units"),
        ({"network": made(hebbcore.SoftHebb())}, ValueError, "teacher is for rules .* and SoftHebb of a does not"),
        ({"network": made(conscience=0.1)}, ValueError, "teacher names a, whose conscience or revival counts wins"),
    ],
)
def test_what_makes_no_sense_is_refused(images, options, error, message):
    with pytest.raises(error, match=f"fit: {message}"):
        trained(images, **{"teacher": MASK, **options})


def test_labels_that_nobody_reads_or_that_are_missing_are_refused(images):
    plain = Network([Dense(3)], device="cpu")
    with pytest.raises(ValueError, match="fit: labels have no effect: no layer learns from labels"):
        fit(plain, images, labels=LABELS)
    with pytest.raises(ValueError, match="train_layer: labels have no effect"):
        train_layer(images, 3, rule="kwta", labels=LABELS)
    with pytest.raises(ValueError, match="train_layer: labels are needed: the layer learns from them"):
        train_layer(images, 3, rule="supervised")
    with pytest.raises(ValueError, match="train_layer: labels must be below 2"):
        train_layer(images, 2, rule="supervised", labels=LABELS)
    with pytest.raises(ValueError, match=r"fit: data must be batches \(images, labels\)"):
        fit(made(), [images], epochs=1)
    with pytest.raises(ValueError, match="fit: labels are for an array of images; batches bring theirs"):
        fit(made(), [(images, LABELS)], labels=LABELS)
    two = Network([Dense(4, "kwta", name="a")], device="cpu")
    with pytest.raises(ValueError, match="fit: classes is needed: a teacher must know how many classes there are"):
        fit(two, [(images, LABELS)], teacher={"a": 4})


def test_classes_are_those_of_the_labels_where_nothing_else_says_them(images):
    two = [Network([Dense(7, "kwta", name="a")], device="cpu") for _ in range(2)]
    options = {"labels": LABELS, "teacher": {"a": 6}, "batch_size": 4}
    same(fit(two[0], images, **options), fit(two[1], images, classes=3, **options))


def test_a_training_without_any_label_says_so(images):
    none = np.full(12, -1)
    with pytest.warns(UserWarning, match=r"fit: no image of this pass had a label, .*: a, b, last\. Bring") as told:
        trained(images, labels=none)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"train_layer: no image of this pass had a label"):
        train_layer(images, units=3, rule="supervised", labels=none)
    with pytest.warns(UserWarning, match=r": b\. Bring") as told:  # only that phase of a layerwise training
        fit(
            Network([Conv(6, 3, KWTA(2), name="a"), Dense(7, SWTA(0.1), name="b")], (6, 6, 2)), images, labels=none,
            teacher={"b": 6}, classes=3, mode="layerwise",
        )  # fmt: skip
    assert len([one for one in told if "label" in str(one.message)]) == 1


def test_a_pass_that_goes_on_without_labels_is_not_taken_for_one_without_any(images, tmp_path):
    labels = np.where(np.arange(12) < 4, LABELS, -1)  # those of the first batch alone
    options = {"labels": labels, "run": tmp_path, "shuffle": False, "log_seconds": 0, "epochs": 1}
    with pytest.raises(KeyboardInterrupt):
        trained(images, callback=lambda record: os.kill(os.getpid(), signal.SIGTERM), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(images, **options)
