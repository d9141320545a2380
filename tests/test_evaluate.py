"""The evaluation of a network: its figures, its honesty, its baselines."""

import copy
import json

import numpy as np
import pytest
from evaluate_helpers import TEST, TRAIN, streams
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import confusion_matrix
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.svm import SVC

import hebbcore
import loaders
from hebbcore.evaluation import make_readout, measure
from hebbcore.evaluation.evaluate import block_ends, evaluate
from hebbcore.evaluation.report import write_report
from hebbcore.evaluation.sources import BASELINES, Source, baseline, collect
from hebbcore.evaluation.splits import labelled_subset

pytest_plugins = "evaluate_helpers"


def test_figures_are_those_of_the_steps_done_by_hand(trained, digits, tmp_path):
    images, labels = digits
    found = evaluate(trained, *streams(digits), tmp_path, fractions=[0.5, 1], seeds=2, baselines=[], queries=30)
    assert list(found["sources"]) == block_ends(trained) == ["bn1", "bn2"]
    for name, entry in found["sources"].items():
        features = trained.transform(images, name).reshape(len(images), -1)
        runs = {(run["labels"], run["seed"]): run for run in entry["runs"]}
        assert sorted(runs) == [(0.5, 0), (0.5, 1), (1.0, 0)]
        for (share, seed), run in runs.items():
            chosen = labelled_subset(labels[TRAIN], share, seed)
            model = make_readout("ridge", seed).fit(features[TRAIN][chosen], labels[TRAIN][chosen])
            scores = model.decision_function(features[TEST])
            assert run["top1"] == pytest.approx(100 * (model.predict(features[TEST]) == labels[TEST]).mean())
            better = (scores > scores[np.arange(120), labels[TEST]][:, None]).sum(axis=1)
            assert run["top5"] == pytest.approx(100 * (better < 5).mean())
        assert np.sum(entry["confusion"]) == 120
        assert np.trace(entry["confusion"]) == pytest.approx(1.2 * runs[1.0, 0]["top1"])
        assert set(entry["retrieval"]) == {"euclidean", "hamming"}
        assert entry["features"] == features.shape[1]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(found))


@pytest.mark.parametrize("memory", ["1 MiB", "16 KiB"])
def test_mirrored_features_of_layers_and_baselines(trained, digits, tmp_path, memory):
    images, labels = digits
    found = evaluate(
        trained, *streams(digits), tmp_path, fractions=[1], layers=["bn1"], baselines=["pixels"], queries=0,
        mirror=True, memory=memory,
    )  # fmt: skip
    views = (images, np.ascontiguousarray(images[:, :, ::-1]))
    sources = {"bn1": [trained.transform(view, "bn1") for view in views], "pixels": [view / 255 for view in views]}
    for name, (there, mirrored) in sources.items():
        features = ((there + mirrored) / 2).reshape(len(images), -1).astype(np.float32)
        model = make_readout("ridge", 0).set_params(memory=memory)
        if memory == "16 KiB":
            model.fit_stream([(features[TRAIN][i : i + 50], labels[TRAIN][i : i + 50]) for i in range(0, 300, 50)])
        else:
            chosen = labelled_subset(labels[TRAIN], 1.0, 0)
            model.fit(features[TRAIN][chosen], labels[TRAIN][chosen])
        (run,) = found["sources"][name]["runs"]
        assert run["top1"] == pytest.approx(100 * model.score(features[TEST], labels[TEST]))


def test_no_test_label_and_no_unlabelled_label_decides_anything(trained, digits, tmp_path, monkeypatch):
    images, labels = digits
    fitted = []

    def spy(readout, seed=0):
        model = make_readout(readout, seed)
        fit = model.fit

        def noting(features, classes):
            fit(features, classes)
            fitted.append((seed, model.alpha_, np.array(model.coef_)))
            return model

        model.fit = noting
        return model

    monkeypatch.setattr(measure, "make_readout", spy)
    chosen = labelled_subset(labels[TRAIN], 0.3, 0)
    hidden = np.setdiff1d(np.arange(len(labels)), chosen)  # the test images' and those of unlabelled training images
    secret = labels.copy()
    secret[hidden] = np.random.default_rng(0).permutation(secret[hidden])
    assert (secret != labels).sum() > 100
    for number, classes in enumerate((labels, secret)):
        evaluate(
            trained, *streams((images, classes)), tmp_path / str(number), fractions=[0.3], seeds=1,
            baselines=["pixels"], queries=0,
        )  # fmt: skip
    half = len(fitted) // 2
    assert half == 3
    for (_, alpha, coef), (_, other_alpha, other_coef) in zip(fitted[:half], fitted[half:], strict=True):
        assert alpha == other_alpha
        np.testing.assert_array_equal(coef, other_coef)


def test_an_interrupted_evaluation_goes_on(trained, digits, tmp_path, monkeypatch):
    options = {"fractions": [0.5, 1], "seeds": 2, "baselines": ["pixels", "random filters"], "queries": 20}
    whole = evaluate(trained, *streams(digits), tmp_path / "whole", **options)
    calls = []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) in (3, 7):
            raise KeyboardInterrupt
        return make_readout(*arguments)

    monkeypatch.setattr(measure, "make_readout", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(trained, *streams(digits), tmp_path / "part", **options)
    assert evaluate(trained, *streams(digits), tmp_path / "part", **options) == whole
    # each figure once: 4 sources of 3 runs, one call at the start of each of the three, two calls in vain
    assert len(calls) == 4 * 3 + 3 + 2
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate(trained, *streams(digits), tmp_path / "part", **options, readout="svm")


@pytest.mark.parametrize("own", [SVC(C=100, gamma=5), NearestCentroid(), KNeighborsClassifier(3)])
def test_classifiers_of_ones_own_are_right_as_often_as_they_say(trained, digits, tmp_path, own):
    images, labels = digits
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    found = evaluate(trained, *streams(digits), tmp_path, readout=own, **options)
    features = trained.transform(images, "bn2").reshape(len(images), -1)
    chosen = labelled_subset(labels[TRAIN], 1.0, 0)  # neighbours as near as each other go by their order
    guesses = make_readout(own).fit(features[TRAIN][chosen], labels[TRAIN][chosen]).predict(features[TEST])
    (run,) = found["sources"]["bn2"]["runs"]
    assert run["top1"] == pytest.approx(100 * (guesses == labels[TEST]).mean())
    assert found["sources"]["bn2"]["confusion"] == confusion_matrix(labels[TEST], guesses).tolist()
    wrong = {one["image"]: one["predicted"] for one in found["mistakes"]["bn2"]}
    assert all(guesses[image] == predicted != labels[TEST][image] for image, predicted in wrong.items())


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (SVC(decision_function_shape="ovo"), r"SVC has decision_function of shape \(120, 45\); take one that does"),
        (VotingClassifier([("a", RidgeClassifier())]), "VotingClassifier has neither decision_function nor predict_pr"),
    ],
)
def test_classifiers_without_a_score_for_each_class_are_refused(trained, digits, tmp_path, own, message):
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    with pytest.raises(ValueError, match=f"evaluate: readout must give a score for each of 10 classes, .*{message}"):
        evaluate(trained, *streams(digits), tmp_path, readout=own, **options)


def test_a_layer_and_a_baseline_of_one_name_are_refused(digits, tmp_path):
    network = hebbcore.fit(hebbcore.Network([hebbcore.Conv(4, 3, "hpca", name="pca")]), digits[0][TRAIN])
    with pytest.raises(ValueError, match=r"evaluate: baselines must not name 'pca', which layers does too: .* one row"):
        evaluate(network, *streams(digits), tmp_path, baselines=["pixels", "pca"])


def test_two_processes_do_not_evaluate_into_one_folder(trained, digits, tmp_path):
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    asked = []

    def other(text):
        asked.append(text)
        message = f"another process is evaluating into {tmp_path}; wait for it or stop it"
        with pytest.raises(BlockingIOError, match=message):
            evaluate(trained, *streams(digits), tmp_path, **options)

    evaluate(trained, *streams(digits), tmp_path, progress=other, **options)
    assert asked
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_bytes_are_not_read_before_their_features(trained, digits, tmp_path):
    class Counted(loaders.ArrayStream):
        batches = 0

        def __iter__(self):
            for batch in super().__iter__():
                self.batches += 1
                yield batch

    data = [Counted(digits[0][part], digits[1][part], 50) for part in (TRAIN, TEST)]
    evaluate(trained, *data, tmp_path, fractions=[1], baselines=[], queries=0)
    assert [stream.batches for stream in data] == [1 + 6, 1 + 3]


def test_names_may_come_once(trained, digits, tmp_path):
    options = {"fractions": iter([1]), "layers": iter(["bn2"]), "baselines": iter(["pixels"]), "queries": 0}
    assert list(evaluate(trained, *streams(digits), tmp_path, **options)["sources"]) == ["bn2", "pixels"]


def test_repeated_fractions_count_once(trained, digits, tmp_path):
    options = {"seeds": 2, "layers": ["bn2"], "baselines": [], "queries": 0}
    found = evaluate(trained, *streams(digits), tmp_path, fractions=[0.5, 0.5, 1, 0.50, 1], **options)
    runs = [(run["labels"], run["seed"]) for run in found["sources"]["bn2"]["runs"]]
    assert runs == [(0.5, 0), (0.5, 1), (1.0, 0)]


def test_a_fraction_that_is_no_list_is_refused_in_words(trained, digits, tmp_path):
    with pytest.raises(TypeError, match=r"evaluate: fractions must be some numbers .*, got 0.5; write one as \[1.0\]"):
        evaluate(trained, *streams(digits), tmp_path, fractions=0.5)


@pytest.mark.parametrize("named", [True, False])
def test_the_confusion_table_names_its_classes(trained, digits, tmp_path, named):
    pytest.importorskip("matplotlib")
    images, labels = digits
    kept = [
        np.flatnonzero(~np.isin(labels[part], lacking)) + part.start for part, lacking in ((TRAIN, 3), (TEST, [3, 5]))
    ]
    data = [(images[rows], labels[rows]) for rows in kept]
    train, test = (loaders.ArrayStream(*pair) for pair in data)
    if named:
        loaders.write_shards(data[0], tmp_path / "shards", class_names=[f"digit|{i}" for i in range(10)])
        train = loaders.ShardStream(tmp_path / "shards")
    found = evaluate(trained, train, test, tmp_path, fractions=[0.03, 1], layers=["bn2"], baselines=[], queries=0)
    classes = [i for i in range(10) if i != 3]
    assert found["classes"] == ([f"digit|{i}" for i in classes] if named else classes)
    matrix = np.array(found["sources"]["bn2"]["confusion"])
    assert matrix.sum(axis=1).tolist() == [(data[1][1] == i).sum() for i in classes]
    assert json.loads((tmp_path / "results.json").read_text()) == found
    write_report(tmp_path, found, "title")
    lines = (tmp_path / "report.md").read_text().splitlines()
    start = "digit\\|" if named else ""
    head = "| true \\ predicted | " + " | ".join(f"{start}{i}" for i in classes) + " |"
    after = lines.index(head) + 2
    for i, row in zip(classes, matrix, strict=True):
        assert lines[after + classes.index(i)] == f"| {start}{i} | " + " | ".join(map(str, row)) + " |"


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_networks_in_the_same_pipeline(name, trained, digits):
    images, _ = digits
    other, layer = baseline(name, trained, images[:100], seed=0)
    source = Source.of(name, other, layer, 200)
    (features,), labels = collect([source], streams(digits)[1])
    assert features.shape == (120, source.features.size)
    assert source.features.size <= 200
    assert np.isfinite(features).all()
    assert np.array_equal(labels, digits[1][TEST])
    if name == "pixels":
        np.testing.assert_allclose(features, images[TEST].reshape(120, -1) / 255, rtol=1e-6)
    else:
        filters = next(iter(other.learners.values())).weights
        assert len(filters) == (9 if name == "pca" else 12)
        again, _ = baseline(name, trained, images[:100], seed=0)
        np.testing.assert_array_equal(next(iter(again.learners.values())).weights, filters)


def test_baselines_of_a_stream_whose_batches_lie_in_the_same_memory(trained, digits, tmp_path):
    class Reused(loaders.ArrayStream):
        def __iter__(self):
            memory = np.empty((self.batch_size, *self.image_shape), np.uint8)
            for images, labels in super().__iter__():
                memory[: len(images)] = images
                yield memory[: len(images)], labels

    train, test = streams(digits)
    reused = Reused(digits[0][TRAIN], digits[1][TRAIN], 50)
    options = {"layers": [], "baselines": ["random whitened patches", "pca"], "fractions": [1], "queries": 0}
    found = [evaluate(trained, data, test, tmp_path / name, **options) for name, data in (("a", train), ("b", reused))]
    assert found[0]["sources"] == found[1]["sources"]


def test_vectors_have_no_baselines_of_patches(digits, tmp_path):
    vectors = digits[0].reshape(len(digits[0]), -1)
    net = hebbcore.fit(hebbcore.Network([hebbcore.Dense(5)]), vectors[TRAIN])
    data = streams((vectors, digits[1]))
    found = evaluate(net, *data, tmp_path, fractions=[1], baselines=["pixels"], queries=0)
    assert found["sources"]["pixels"]["features"] == 64
    with pytest.raises(ValueError, match="random filters is of patches, but the network takes vectors"):
        evaluate(net, *data, tmp_path, fractions=[1], baselines=["random filters"], queries=0)


def test_images_of_unlike_scales_are_told(trained, digits, tmp_path, caplog):
    images, labels = digits
    train, test = loaders.ArrayStream(images[TRAIN] / 1.0, labels[TRAIN]), streams(digits)[1]
    options = {"fractions": [1], "baselines": [], "queries": 0}
    with pytest.raises(ValueError, match="images must have the scale of what was learned from, uint8, got float64"):
        evaluate(trained, train, test, tmp_path / "refused", **options)
    network = copy.copy(trained)
    network.pixel_scale = None  # as of a file of an earlier version
    largest = f"of train is {images[TRAIN].max()}, and of test {images[TEST].max() / 255:.3g} (uint8 is read as 0…1)"
    for _ in range(2):  # the second time by what results.json says
        results = evaluate(network, train, test, tmp_path / "a", **options)
        assert caplog.text.count(largest) == 1
        caplog.clear()
    write_report(tmp_path / "a", results, "Scales")
    assert largest in (tmp_path / "a" / "report.md").read_text("utf-8")
    train = loaders.ArrayStream(images[TRAIN] / 255, labels[TRAIN])
    evaluate(trained, train, test, tmp_path / "b", fractions=[1], baselines=[], queries=0)
    assert not caplog.text


def test_features_that_do_not_fit_are_streamed(trained, digits, tmp_path, caplog):
    options = {"fractions": [1], "seeds": 1, "baselines": [], "layers": ["bn2"]}
    streamed = evaluate(trained, *streams(digits), tmp_path / "a", memory="1 KiB", **options)
    held = evaluate(trained, *streams(digits), tmp_path / "b", queries=0, **options)
    assert "fitted from the stream" in caplog.text
    accuracies = [found["sources"]["bn2"]["runs"][0]["top1"] for found in (streamed, held)]
    assert abs(accuracies[0] - accuracies[1]) < 5  # other rows are held out to choose the penalty
    own = make_readout("ridge").set_params(memory="1 KiB")
    again = evaluate(trained, *streams(digits), tmp_path / "own", memory="1 KiB", readout=own, **options)
    assert again["sources"] == streamed["sources"]
    with pytest.raises(ValueError, match='which only readout="ridge" can do without'):
        evaluate(trained, *streams(digits), tmp_path / "c", memory="1 KiB", readout="knn", **options)


@pytest.mark.parametrize(("images", "streamed"), [(300, True), (419, True), (420, False)])
def test_features_of_train_and_test_are_kept_together(trained, digits, tmp_path, caplog, images, streamed):
    memory = images * 4 * trained.shapes[trained.index_of("", "bn2")][0]
    options = {"fractions": [1], "baselines": [], "layers": ["bn2"], "queries": 5, "memory": memory}
    for again in (False, True):  # then nothing is left to do
        found = evaluate(trained, *streams(digits), tmp_path, **options)
        assert ("fitted from the stream" in caplog.text) == (streamed and not again)
        assert bool(found["sources"]["bn2"]["retrieval"]) != streamed
        caplog.clear()


def test_retrieval_that_had_no_room_is_measured_with_more_memory(trained, digits, tmp_path):
    options = {"fractions": [1], "seeds": 1, "baselines": ["pixels"], "layers": ["bn2"]}
    before = evaluate(trained, *streams(digits), tmp_path / "a", memory="1 KiB", **options)
    assert not any(entry["retrieval"] for entry in before["sources"].values())
    assert evaluate(trained, *streams(digits), tmp_path / "a", memory="1 KiB", **options) == before
    after = evaluate(trained, *streams(digits), tmp_path / "a", **options)
    roomy = evaluate(trained, *streams(digits), tmp_path / "b", **options)
    for name, entry in after["sources"].items():
        assert entry["retrieval"] == roomy["sources"][name]["retrieval"]
        assert entry["runs"] == before["sources"][name]["runs"]


def test_the_grid_has_as_many_cells_as_features_allow(trained):
    assert Source.of("a", trained, "conv1", 12 * 36).features.grid is None
    assert Source.of("a", trained, "conv1", 12 * 25 + 11).features.grid == 5
    assert Source.of("a", trained, "conv1", 3).features.grid == 1
    assert Source.of("a", trained, "fc2", 3).features.size == 16
