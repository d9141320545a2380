"""Images without a label: an evaluation, and every readout and figure, is that of the labelled ones alone."""

import logging

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore.classify import FewLabelClassifier
from hebbcore.cli import main
from hebbcore.estimators import HebbianTransformer
from hebbcore.evaluation import (
    RidgeReadout,
    labelled_subset,
    make_readout,
    retrieval_scores,
    sgd_stream,
    top_k_accuracy,
)
from hebbcore.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def digits():
    """Return digits as uint8 images (n, 8, 8, 1), and labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8)[..., None], data.target.astype(np.int64)


@pytest.fixture(scope="module")
def network():
    """Return a small network."""
    return hebbcore.Network([hebbcore.Conv(8, 3, "swta"), hebbcore.Pool(2)], (8, 8, 1), device="cpu")


@pytest.fixture(scope="module")
def sets(digits):
    """Return 600 labelled training and 150 labelled test images alone, and the same among others without a label."""
    images, labels = digits
    random, sets = np.random.default_rng(0), []
    for kept, hidden in ((slice(0, 600), slice(800, 1500)), (slice(600, 750), slice(1500, 1700))):
        mixed = np.concatenate([images[kept], images[hidden]])
        names = np.concatenate([labels[kept], np.full(hidden.stop - hidden.start, -1)])
        places = np.concatenate([np.arange(kept.stop - kept.start), random.uniform(0, 600, hidden.stop - hidden.start)])
        order = np.argsort(places, kind="stable")
        sets.append(((images[kept], labels[kept]), (mixed[order], names[order])))
    return sets


@pytest.mark.parametrize(
    "options",
    [
        {"queries": 50, "baselines": ["k-means"]},  # whose filters are of labelled images too
        {"how": "stratified", "readout": "knn", "queries": 0, "baselines": [], "layers": ["pool1"]},
        {"memory": "16 KiB", "baselines": []},  # less than the features, the sums of products and several rows take
    ],
)
def test_an_evaluation_is_that_of_the_labelled_images_alone(network, sets, tmp_path, options):
    told = {}
    found = []
    for number in range(2):
        train, test = (loaders.ArrayStream(*pair[number], 64) for pair in sets)
        told[number] = []
        found.append(
            evaluate(
                network,
                train,
                test,
                tmp_path / str(number),
                fractions=[0.1, 1],
                seeds=2,
                **options,
                progress=told[number].append,
            )
        )
    alone, among = found
    assert among["sources"] == alone["sources"]
    assert among["classes"] == alone["classes"] == list(range(10))
    assert np.sum(next(iter(among["sources"].values()))["confusion"]) == 150
    counts = {name: [part[kind] for kind in ("labelled", "unlabelled")] for name, part in among["images"].items()}
    assert counts == {"train": [600, 700], "test": [150, 200]}
    assert told[1][:2] == [
        "700 of 1300 images of train have no label and are left out.",
        "200 of 350 images of test have no label and are left out.",
    ]
    told = [[line for line in lines if not line.endswith(" left")] for lines in told.values()]  # but by the clock
    assert told[1][2:] == told[0]
    for name, mistakes in among["mistakes"].items():  # numbers are those of the whole stream
        assert [one["true"] for one in mistakes] == [sets[1][1][1][one["image"]] for one in mistakes]
        assert [{**one, "image": 0} for one in mistakes] == [{**one, "image": 0} for one in alone["mistakes"][name]]


def test_unlabelled_images_come_out_of_shards_too(network, sets, tmp_path):
    options = {"fractions": [0.2, 1], "seeds": 1, "baselines": ["pixels"], "queries": 20}
    for split, pair in zip(("train", "test"), sets, strict=True):
        loaders.write_shards(pair[1], tmp_path / split)
    shards = [loaders.ShardStream(tmp_path / split, batch_size=64) for split in ("train", "test")]
    arrays = [loaders.ArrayStream(*pair[0], 64) for pair in sets]
    found = evaluate(network, *shards, tmp_path / "a", **options)
    assert found["sources"] == evaluate(network, *arrays, tmp_path / "b", **options)["sources"]


def test_the_command_and_its_report_say_how_many(network, sets, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    hebbcore.save(tmp_path / "network.h5", network)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for split, pair in zip(("train", "test"), sets, strict=True):
            file[f"{split}/images"], file[f"{split}/labels"] = pair[1]
    data = str(tmp_path / "set.h5")
    line = ["evaluate", str(tmp_path / "network.h5"), "--train", data, "--test", data, "--out", str(tmp_path / "out")]
    assert main([*line, "--labels", "100", "--baselines", "none", "--queries", "0"]) == 0
    text = "700 of 1300 images of train have no label and are left out."
    printed = capsys.readouterr()
    assert text in printed.out
    assert text in printed.err
    assert text in (tmp_path / "out" / "report.md").read_text()
    assert text in (tmp_path / "out" / "report.html").read_text()


def test_without_any_label_there_is_nothing_to_evaluate(network, sets, tmp_path):
    images = sets[0][0][0]
    train, test = loaders.ArrayStream(images, np.full(600, -1)), loaders.ArrayStream(*sets[1][0])
    with pytest.raises(ValueError, match="evaluate: no image of train has a label: all 600 are below 0; label some"):
        evaluate(network, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fraction_is_one_of_the_labelled_images(network, sets, tmp_path):
    train, test = (loaders.ArrayStream(*pair[1], 64) for pair in sets)
    with pytest.raises(ValueError, match=r"too few of the 600 training images .*: 0.1 % \(1: all of one class"):
        evaluate(network, train, test, tmp_path / "out", fractions=[0.001], seeds=1)


# Readouts and figures on features


@pytest.fixture
def features(generator):
    """Return features of three classes, of which every second row has no label, and the labelled rows."""
    truth = generator.integers(0, 3, 400)
    values = (generator.normal(size=(3, 6))[truth] + 0.8 * generator.normal(size=(400, 6))).astype(np.float32)
    labelled = np.arange(400) % 2 == 0
    return values, np.where(labelled, truth, -1), labelled


@pytest.mark.parametrize("alphas", [1.0, (0.1, 1.0, 10.0)])
def test_ridge_leaves_rows_without_a_label_out(features, alphas, caplog):
    values, labels, labelled = features
    alone = RidgeReadout(alphas).fit(values[labelled], labels[labelled])
    among = RidgeReadout(alphas).fit(values, labels)
    assert "RidgeReadout.fit: 200 of 400 rows are left out: their labels are below 0" in caplog.text
    np.testing.assert_array_equal(among.coef_, alone.coef_)
    np.testing.assert_array_equal(among.classes_, [0, 1, 2])
    assert among.score(values, labels) == alone.score(values[labelled], labels[labelled])
    cuts = [slice(0, 1), slice(1, 150), slice(150, 151), slice(151, 400)]
    streamed = RidgeReadout(alphas).fit_stream([(values[part], labels[part]) for part in cuts])
    alone = RidgeReadout(alphas).fit_stream([(values[labelled], labels[labelled])])
    np.testing.assert_array_equal(streamed.coef_, alone.coef_)
    assert "RidgeReadout.fit_stream: 200 of 400 rows are left out" in caplog.text
    partial = RidgeReadout(alphas)
    for part in cuts:
        partial.partial_fit(values[part], labels[part])
    np.testing.assert_array_equal(partial.coef_, alone.coef_)


def test_minus_one_and_one_are_two_classes_of_fit(features, caplog):
    values, labels, labelled = features
    values, signs = values[labelled], np.where(labels[labelled] == 0, -1, 1)
    model = RidgeReadout(1.0).fit(values, signs)
    np.testing.assert_array_equal(model.classes_, [-1, 1])
    assert model.score(values, signs) == (model.predict(values) == signs).mean()
    with pytest.raises(ValueError, match=r"at least 2 classes, got 1 class \(1\).* unless classes lists them"):
        RidgeReadout(1.0).fit_stream([(values, signs)])
    listed = RidgeReadout(1.0).fit_stream([(values, signs)], classes=[-1, 1])
    np.testing.assert_allclose(listed.coef_, model.coef_, atol=1e-5)
    partial = RidgeReadout(1.0).partial_fit(values, signs, classes=[-1, 1])
    np.testing.assert_array_equal(partial.coef_, listed.coef_)
    with pytest.raises(ValueError, match=r"got 1 \(1\); .* unless classes lists them"):
        sgd_stream([(values, signs)])
    caplog.clear()
    assert sgd_stream([(values, signs)], classes=[-1, 1]).classes_.tolist() == [-1, 1]
    assert not caplog.records


def test_streams_say_it_once(features, caplog):
    values, labels, labelled = features
    model = sgd_stream([(values[:99], labels[:99]), (values[99:], labels[99:])], epochs=3)
    assert [record.getMessage()[:42] for record in caplog.records] == ["sgd_stream: 200 of 400 rows are left out: "]
    alone = sgd_stream([(values[labelled], labels[labelled])], epochs=3)
    np.testing.assert_array_equal(model["classifier"].classes_, [0, 1, 2])
    np.testing.assert_allclose(model["scaler"].mean_, alone["scaler"].mean_)


@pytest.mark.parametrize("name", ["logistic", "svm", "sgd", "knn"])
def test_readouts_of_scikit_learn_refuse_them(features, name):
    values, labels, labelled = features
    with pytest.raises(ValueError, match=r"200 of 400 labels are below 0 or .*; fit to labelled rows alone \(y >= 0\)"):
        make_readout(name).fit(values, labels)
    make_readout(name).fit(values[labelled], np.where(labels[labelled] == 0, -1, 1))


def test_a_subset_is_one_of_the_labelled_rows(features, caplog):
    _, labels, labelled = features
    for size, how in ((0.25, "published"), (30, "stratified")):
        chosen = labelled_subset(labels, size, 3, how)
        np.testing.assert_array_equal(chosen, np.flatnonzero(labelled)[labelled_subset(labels[labelled], size, 3, how)])
    assert len(labelled_subset(labels, 1.0)) == 200
    assert "labelled_subset: 200 of 400 rows are left out" in caplog.text
    assert set(labelled_subset(np.tile([-1, 1], 20), 40)) == set(range(40))


def test_retrieval_is_among_the_labelled_rows(features, caplog):
    values, labels, labelled = features
    caplog.set_level(logging.WARNING)
    asked = slice(0, 50)
    found = retrieval_scores(values, labels, values[asked], labels[asked])
    kept = labelled[asked]
    assert found == retrieval_scores(values[labelled], labels[labelled], values[asked][kept], labels[asked][kept])
    assert "200 of 400 rows of the database are left out" in caplog.text
    assert "25 of 50 queries are left out" in caplog.text
    with pytest.raises(ValueError, match="no query has a label: all 3 are below 0"):
        retrieval_scores(values, labels, values[:3], [-1, -1, -2])


def test_accuracy_is_that_of_the_labelled_rows(features, caplog):
    values, labels, labelled = features
    scores = values[:, :3]
    assert top_k_accuracy(scores, labels, 2) == top_k_accuracy(scores[labelled], labels[labelled], 2)
    assert "top_k_accuracy: 200 of 400 rows are left out" in caplog.text
    assert 0 < top_k_accuracy(scores[:, :2], np.where(labels == 0, -1, 1), 1, [-1, 1]) < 1
    with pytest.raises(ValueError, match="no row has a label"):
        top_k_accuracy(scores[:2], [-1, -1])


_X, _Y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
_HIDDEN = np.ma.masked_array(_Y, _Y > 0)
_FITTED = RidgeReadout().fit(_X, _Y)


@pytest.mark.parametrize(
    ("given", "function", "name"),
    [
        (lambda: RidgeReadout().fit(_X, _HIDDEN), "RidgeReadout.fit", "y"),
        (lambda: RidgeReadout().fit(np.ma.masked_less(_X, 0), _Y), "RidgeReadout.fit", "X"),
        (lambda: RidgeReadout().fit(_X, _Y, sample_weight=_HIDDEN), "RidgeReadout.fit", "sample_weight"),
        (lambda: RidgeReadout().fit_stream([(_X, _HIDDEN)]), "RidgeReadout.fit_stream", "labels"),
        (lambda: RidgeReadout().fit_stream([(_X, _Y, _HIDDEN)]), "RidgeReadout.fit_stream", "sample_weight"),
        (lambda: _FITTED.predict(np.ma.masked_less(_X, 0)), "RidgeReadout.predict", "X"),
        (lambda: _FITTED.score(_X, _HIDDEN), "RidgeReadout.score", "y"),
        (lambda: labelled_subset(_HIDDEN, 0.5), "labelled_subset", "labels"),
        (lambda: retrieval_scores(_X, _HIDDEN, _X, _Y), "retrieval_scores", "database_labels"),
        (lambda: FewLabelClassifier().fit(_X, _HIDDEN), "FewLabelClassifier.fit", "y"),
        (lambda: FewLabelClassifier().fit(_X, _Y).relearn(_HIDDEN), "FewLabelClassifier.relearn", "y"),
        (lambda: HebbianTransformer(2).fit(np.ma.masked_less(_X, 0)), "HebbianTransformer.fit", "X"),
    ],
)
def test_masks_are_refused_not_dropped(given, function, name):
    """scikit-learn and NumPy take what lies under a mask for known."""
    with pytest.raises(TypeError, match=rf"{function}: {name} must not be masked; {name}\.filled"):
        given()


@pytest.mark.parametrize(
    "given", [_Y, _Y > 0, np.array(["a", "b"])[_Y], np.arange(12) % 3 - 1, np.arange(12) % 3 - 1.0]
)
def test_objects_are_the_labels_that_they_are_equal_to(given):
    """An array of objects, such as a column of a table, has no type that says which numbers are no labels."""
    boxed, classes = given.astype(object), np.unique(given)[-2:]
    for figure in (
        lambda labels: labelled_subset(labels, 6, 0, "stratified").tolist(),
        lambda labels: retrieval_scores(_X, labels, _X, labels, k=3),
        lambda labels: top_k_accuracy(np.arange(24).reshape(12, 2) % 5, labels, 1, classes),
        lambda labels: RidgeReadout().fit(_X, labels).classes_.tolist(),
        lambda labels: RidgeReadout().fit_stream([(_X, labels)]).classes_.tolist(),
        lambda labels: sgd_stream([(_X, labels)]).classes_.tolist(),
    ):
        assert figure(boxed) == figure(given)


@pytest.mark.parametrize("none", ["", " "])
@pytest.mark.parametrize("kind", [str, object])
def test_empty_texts_are_no_label_as_numbers_below_0_are_none(none, kind, caplog):
    given = np.arange(12) % 4 - 1
    texts = np.where(given < 0, none, np.char.add("c", given.astype(str))).astype(kind)
    names = np.unique(texts)[1:]
    for function, figure in {
        "labelled_subset": lambda labels, _: labelled_subset(labels, 6, 0, "stratified").tolist(),
        "retrieval_scores": lambda labels, _: retrieval_scores(_X, labels, _X, labels, k=3),
        "top_k_accuracy": lambda labels, classes: top_k_accuracy(np.arange(36).reshape(12, 3) % 5, labels, 1, classes),
        "RidgeReadout.fit": lambda labels, _: RidgeReadout().fit(_X, labels).coef_.tolist(),
        "RidgeReadout.fit_stream": lambda labels, _: RidgeReadout().fit_stream([(_X, labels)]).coef_.tolist(),
        "sgd_stream": lambda labels, _: sgd_stream([(_X, labels)])["classifier"].coef_.tolist(),
    }.items():
        caplog.clear()
        assert figure(texts, names) == figure(given, np.arange(3)), function
        assert f"{function}: 3 of 12" in caplog.text
    with pytest.raises(ValueError, match="make_readout: 3 of 12 labels are below 0 or empty"):
        make_readout("knn").fit(_X, texts)


@pytest.mark.parametrize(("none", "one", "told"), [("", "c", True), (" ", "c", True), (-1, 0, True), (-1, 1, False)])
def test_what_else_is_no_label_is_a_class_beside_a_single_one_and_told(none, one, told, caplog):
    labels = np.array([none, one] * 6)
    for function, made in {"RidgeReadout.fit": RidgeReadout(), "make_readout": make_readout("svm")}.items():
        caplog.clear()
        assert set(made.fit(_X, labels).classes_) == {none, one}
        wanted = f"{function}: {'y' if function == 'make_readout' else 'labels'} holds {none!r}, which else is no label"
        assert [text.startswith(wanted) for text in caplog.messages if " holds " in text] == [True] * told


def test_readouts_by_name_refuse_objects_below_0():
    with pytest.raises(ValueError, match="make_readout: 4 of 12 labels are below 0"):
        make_readout("knn").fit(_X, (np.arange(12) % 3 - 1).astype(object))


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("labelled_subset", lambda labels: labelled_subset(labels, 6)),
        ("retrieval_scores", lambda labels: retrieval_scores(_X, labels, _X, labels)),
        ("top_k_accuracy", lambda labels: top_k_accuracy(np.eye(12), labels)),
        ("RidgeReadout.fit", lambda labels: RidgeReadout().fit(_X, labels)),
        ("RidgeReadout.fit_stream", lambda labels: RidgeReadout().fit_stream([(_X, labels)])),
        ("sgd_stream", lambda labels: sgd_stream([(_X, labels)])),
        ("make_readout", lambda labels: make_readout("knn").fit(_X, labels)),
    ],
)
def test_labels_of_several_types_are_refused_by_name(function, call):
    labels = np.array(["a", None, 1] * 4, object)
    with pytest.raises(TypeError, match=rf"{function}: .* all texts or all numbers, got NoneType and int and str"):
        call(labels)


@pytest.mark.parametrize("name", ["nan", "None", "-1", "cat"])
def test_texts_that_look_like_no_label_are_classes_and_told_once(generator, caplog, name):
    features, labels = generator.standard_normal((60, 4)).astype(np.float32), np.array(["dog", "pig", name] * 20)
    batches = [(features[start : start + 20], labels[start : start + 20]) for start in (0, 20, 40)]
    some = RidgeReadout()
    for function, call in {
        "RidgeReadout.fit": lambda: RidgeReadout().fit(features, labels),
        "RidgeReadout.fit_stream": lambda: RidgeReadout().fit_stream(batches),
        "RidgeReadout.partial_fit": lambda: [some.partial_fit(*batch) for batch in batches],
        "sgd_stream": lambda: sgd_stream(batches, epochs=2),
        "labelled_subset": lambda: labelled_subset(labels, 30),
        "retrieval_scores": lambda: retrieval_scores(features, labels, features, labels, k=1),
        "make_readout": lambda: make_readout("logistic").fit(features, labels),
    }.items():
        caplog.clear()
        call()
        told = [text for text in caplog.messages if "holds the texts" in text]
        argument = "y" if function == "make_readout" else "labels"
        wanted = f"{function}: {argument} holds the texts {name!r}, which are classes; where they mean that there is no"
        assert [text[: len(wanted)] for text in told] == [wanted] * (name != "cat")
    caplog.clear()
    RidgeReadout().fit_stream(batches, classes=["dog", "pig", name])
    assert "holds the texts" not in caplog.text
