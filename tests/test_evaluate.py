"""The evaluation of a network: its figures, its honesty, its report, its command."""

import json
import re
import sys

import h5py
import numpy as np
import pytest
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore.cli import main
from hebbcore.evaluation import evaluate as module
from hebbcore.evaluation import make_readout, measure
from hebbcore.evaluation.evaluate import block_ends, evaluate
from hebbcore.evaluation.report import accuracy_table, write_report
from hebbcore.evaluation.results import Results
from hebbcore.evaluation.sources import BASELINES, Source, baseline, collect
from hebbcore.evaluation.splits import labelled_subset
from hebbcore.files import locked

TRAIN, TEST = slice(0, 300), slice(300, 420)


@pytest.fixture(scope="module")
def digits():
    """Return digits as uint8 images (n, 8, 8, 1), and labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8)[..., None], data.target.astype(np.int64)


@pytest.fixture(scope="module")
def network(digits):
    """Return a small trained network."""
    net = hebbcore.Network(
        [
            hebbcore.Conv(12, 3, "hpca"), hebbcore.Pool(2), hebbcore.BatchNorm(), hebbcore.Dense(16, "hpca"),
            hebbcore.BatchNorm(),
        ]
    )  # fmt: skip
    return hebbcore.fit(net, digits[0][TRAIN], epochs=2, learning_rate=1e-2)


def streams(digits, batch=50):
    images, labels = digits
    return [loaders.ArrayStream(images[part], labels[part], batch) for part in (TRAIN, TEST)]


def test_figures_are_those_of_the_steps_done_by_hand(network, digits, tmp_path):
    images, labels = digits
    found = evaluate(network, *streams(digits), tmp_path, fractions=[0.5, 1], seeds=2, baselines=[], queries=30)
    assert list(found["sources"]) == block_ends(network) == ["bn1", "bn2"]
    for name, entry in found["sources"].items():
        features = network.transform(images, name).reshape(len(images), -1)
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


@pytest.mark.parametrize("memory", ["1 MiB", "1 KiB"])
def test_mirrored_features_of_layers_and_baselines(network, digits, tmp_path, memory):
    images, labels = digits
    found = evaluate(
        network, *streams(digits), tmp_path, fractions=[1], layers=["bn1"], baselines=["pixels"], queries=0,
        mirror=True, memory=memory,
    )  # fmt: skip
    views = (images, np.ascontiguousarray(images[:, :, ::-1]))
    sources = {"bn1": [network.transform(view, "bn1") for view in views], "pixels": [view / 255 for view in views]}
    for name, (there, mirrored) in sources.items():
        features = ((there + mirrored) / 2).reshape(len(images), -1).astype(np.float32)
        model = make_readout("ridge", 0)
        if memory == "1 KiB":
            model.fit_stream([(features[TRAIN][i : i + 50], labels[TRAIN][i : i + 50]) for i in range(0, 300, 50)])
        else:
            chosen = labelled_subset(labels[TRAIN], 1.0, 0)
            model.fit(features[TRAIN][chosen], labels[TRAIN][chosen])
        (run,) = found["sources"][name]["runs"]
        assert run["top1"] == pytest.approx(100 * model.score(features[TEST], labels[TEST]))


def test_no_test_label_and_no_unlabelled_label_decides_anything(network, digits, tmp_path, monkeypatch):
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
            network, *streams((images, classes)), tmp_path / str(number), fractions=[0.3], seeds=1,
            baselines=["pixels"], queries=0,
        )  # fmt: skip
    half = len(fitted) // 2
    assert half == 3
    for (_, alpha, coef), (_, other_alpha, other_coef) in zip(fitted[:half], fitted[half:], strict=True):
        assert alpha == other_alpha
        np.testing.assert_array_equal(coef, other_coef)


def test_an_interrupted_evaluation_goes_on(network, digits, tmp_path, monkeypatch):
    options = {"fractions": [0.5, 1], "seeds": 2, "baselines": ["pixels", "random filters"], "queries": 20}
    whole = evaluate(network, *streams(digits), tmp_path / "whole", **options)
    calls = []

    def stops(*arguments):
        calls.append(arguments)
        if len(calls) in (3, 7):
            raise KeyboardInterrupt
        return make_readout(*arguments)

    monkeypatch.setattr(measure, "make_readout", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(network, *streams(digits), tmp_path / "part", **options)
    assert evaluate(network, *streams(digits), tmp_path / "part", **options) == whole
    # each figure once: 4 sources of 3 runs, one call at the start of each of the three, two calls in vain
    assert len(calls) == 4 * 3 + 3 + 2
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate(network, *streams(digits), tmp_path / "part", **options, readout="svm")


def test_two_processes_do_not_evaluate_into_one_folder(network, digits, tmp_path):
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    asked = []

    def other(text):
        asked.append(text)
        message = f"another process is evaluating into {tmp_path}; wait for it or stop it"
        with pytest.raises(BlockingIOError, match=message):
            evaluate(network, *streams(digits), tmp_path, **options)

    evaluate(network, *streams(digits), tmp_path, progress=other, **options)
    assert asked
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_no_report_is_written_while_another_process_evaluates(files, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    options = ("--labels", "100", "--baselines", "none", "--queries", "0", "--out", str(tmp_path))
    assert main(command(files, *options)) == 0
    capsys.readouterr()
    monkeypatch.setattr("hebbcore.cli.evaluate.evaluate", lambda *arguments, **options: {})
    with locked(tmp_path, "evaluating into"):
        assert main(command(files, *options)) == 1
    assert capsys.readouterr().err == (
        f"hebbcore: another process is evaluating into {tmp_path}; wait for it or stop it.\n"
    )  # fmt: skip


BROKEN = [
    b"", b"[]", b"\xff\xfe", b"{}", b'{"mine": 1}', b'{"settings": 1, "classes": [], "sources": {}}',
    b'{"settings": {}, "sources": {}}', b'{"settings": {}, "classes": [], "sources": []}',
    b'{"settings": {}, "classes": [], "sources": {"bn1": {"runs": {}, "confusion": null, "retrieval": null}}}',
    b'{"settings": {}, "classes": [], "sources": {"bn1": []}}',
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_of_results_that_are_none_is_named_and_kept(network, digits, tmp_path, content, no_features):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"evaluate: {path} is damaged, or not what this version writes; name another"):
        evaluate(network, *streams(digits), tmp_path, fractions=[1])
    assert path.read_bytes() == content


def test_another_evaluation_is_told_by_what_differs(network, digits, tmp_path):
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    evaluate(network, *streams(digits), tmp_path, **options)
    train = streams(digits)[0]
    message = (
        f"evaluate: {tmp_path} holds another evaluation: "
        r"test.shape\[0\] is 300 here and 120 there; .*test.images is 300 here and 120 there; "
        "readout is 'svm' here and 'ridge' there; mirror is True here and False there; name another folder"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(network, train, train, tmp_path, **options, readout="svm", mirror=True)


def test_other_batches_are_the_same_evaluation(network, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BASELINE_IMAGES", 120)
    options = {"layers": ["bn2"], "baselines": ["k-means"], "queries": 0}
    small, large = streams(digits, 50), streams(digits, 64)
    evaluate(network, *small, tmp_path / "a", fractions=[1], **options)
    next(iter(small[0]))  # a loop that is left in the middle is none either
    evaluate(network, *small, tmp_path / "a", fractions=[1], **options)
    again = evaluate(network, *large, tmp_path / "a", fractions=[0.5, 1], **options)
    whole = evaluate(network, *large, tmp_path / "b", fractions=[1, 0.5], **options)
    assert again == whole


@pytest.mark.parametrize("other", [True, False])
def test_the_folder_of_a_run_gets_no_report(files, digits, tmp_path, capsys, monkeypatch, other):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    hebbcore.fit(hebbcore.Network([hebbcore.Conv(3, 3)]), digits[0][:20], run="a")
    (tmp_path / "a" / "filters.png").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    arguments = command(files, "--out", f"{tmp_path}/a")
    if not other:
        arguments[1] = "a"
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"hebbcore: evaluate: {tmp_path}/a is the folder of a run, whose filters.png the report would replace; name "
        f"another --out, such as {tmp_path}/a/report.\n"
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "a" / "filters.png").read_bytes() == b"mine"


def test_other_pixels_are_another_evaluation(network, digits, tmp_path):
    loaders.write_shards(digits, tmp_path / "shards")
    whole = loaders.ShardStream(tmp_path / "shards", batch_size=50, subset=100)
    cut = loaders.ShardStream(tmp_path / "shards", batch_size=50, subset=100, transform=loaders.CenterCrop(8, 9))
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    evaluate(network, whole, whole, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate(network, cut, whole, tmp_path / "out", **options)


@pytest.mark.parametrize("shuffled", ["train", "test"])
def test_shuffled_streams_are_refused(network, digits, tmp_path, shuffled):
    loaders.write_shards(digits, tmp_path / "shards")
    train, test = (loaders.ShardStream(tmp_path / "shards", shuffle=name == shuffled) for name in ("train", "test"))
    with pytest.raises(ValueError, match=f"evaluate: {shuffled} must be in its stored order"):
        evaluate(network, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def no_features(monkeypatch):
    """Let every computation of features fail."""

    def refused(*arguments, **options):
        raise AssertionError("features were computed")

    monkeypatch.setattr(hebbcore.Network, "features", refused)
    monkeypatch.setattr(module, "baseline", refused)


def test_classes_of_other_numbers_are_refused(network, digits, tmp_path, no_features):
    images, labels = digits
    names = [f"digit {i}" for i in range(10)]
    loaders.write_shards((images[TRAIN], labels[TRAIN]), tmp_path / "train", class_names=names)
    kept = labels[TEST] != 3  # as of class folders of which one is missing
    shifted = labels[TEST][kept] - (labels[TEST][kept] > 3)
    loaders.write_shards((images[TEST][kept], shifted), tmp_path / "test", class_names=names[:3] + names[4:])
    train, test = (loaders.ShardStream(tmp_path / name) for name in ("train", "test"))
    with pytest.raises(
        ValueError, match=r"evaluate: .* class 3 is 'digit 3' in train and 'digit 4' in test; build the"
    ):
        evaluate(network, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_test_set_without_the_last_class_is_numbered_alike(network, digits, tmp_path):
    images, labels = digits
    kept = labels[TEST] < 9
    loaders.write_shards((images[TRAIN], labels[TRAIN]), tmp_path / "train")
    loaders.write_shards((images[TEST][kept], labels[TEST][kept]), tmp_path / "test")
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    shards = [loaders.ShardStream(tmp_path / name) for name in ("train", "test")]
    assert [len(stream.class_names) for stream in shards] == [10, 9]
    found = evaluate(network, *shards, tmp_path / "a", **options)
    arrays = streams(digits)[0], loaders.ArrayStream(images[TEST][kept], labels[TEST][kept])
    assert found["sources"] == evaluate(network, *arrays, tmp_path / "b", **options)["sources"]


def test_classes_that_no_training_image_has_are_refused(network, digits, tmp_path, no_features):
    images, labels = digits
    kept = ~np.isin(labels[TRAIN], [2, 7])
    train = loaders.ArrayStream(images[TRAIN][kept], labels[TRAIN][kept])
    count = np.isin(labels[TEST], [2, 7]).sum()
    message = f"evaluate: {count} images of test are of classes that no image of train has: 2, 7; leave them out"
    with pytest.raises(ValueError, match=message):
        evaluate(network, train, streams(digits)[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        (
            {"fractions": [0.001, 0.002, 0.005, 1], "seeds": 1}, 300,
            r"too few of the 300 training images have labels to fit a classifier: 0.1 % \(0: none with seed 0\); "
            r"0.2 % \(1: all of one class with seed 0\); 0.5 % \(2: no class has two, of which one is held out to "
            r"choose the readout's penalty with seed 0\); 1.67 % or more are enough",
        ),
        (
            {"fractions": [0.02, 0.04], "how": "stratified"}, 300,
            r"classifier: 2 % \(6: a stratified selection has at least one of each of 10 classes\); 3.67 % or more",
        ),
        ({"fractions": [0.05], "readout": "knn"}, 300, r"knn needs 20 besides those held out .*; 9.67 % or more"),
        ({"fractions": [1]}, 10, r"100 % \(10: no class has two, of which one is held out .* penalty\); add images to"),
        ({"fractions": [0.5, 1]}, 1, r"50 % \(0: none with seed 0\); 100 % \(1: all of one class\); add images"),
        ({"how": "random"}, 300, "how must be one of 'published', 'stratified'; got 'random'"),
    ],
)  # fmt: skip
def test_too_few_labels_are_said_before_any_work(network, digits, tmp_path, options, count, message, no_features):
    images, labels = digits[0][:count], digits[1][:count]
    data = loaders.ArrayStream(images, labels)
    with pytest.raises(ValueError, match=f"evaluate: .*{message}"):
        evaluate(network, data, data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("readout", "memory"), [("ridge", "1 MiB"), ("ridge", "64 KiB"), ("svm", "1 MiB")])
def test_what_is_said_to_be_enough_is_enough(network, digits, tmp_path, readout, memory):
    options = {"layers": ["bn1"], "baselines": [], "queries": 0, "memory": memory, "readout": readout}
    with pytest.raises(ValueError, match=r"; 3 % or more are enough"):
        evaluate(network, *streams(digits), tmp_path / "a", fractions=[0.02], **options)
    found = evaluate(network, *streams(digits), tmp_path / "b", fractions=[0.03], **options)
    assert len(found["sources"]["bn1"]["runs"]) == 5


def test_a_published_selection_may_lack_classes_whose_images_count_as_wrong(network, digits, tmp_path):
    images, labels = digits
    found = evaluate(
        network, *streams(digits), tmp_path, fractions=[0.03], seeds=2, layers=["bn2"], baselines=[], queries=0
    )  # fmt: skip
    features = network.transform(images, "bn2")
    lacking = 0
    for run in found["sources"]["bn2"]["runs"]:
        chosen = np.random.default_rng(run["seed"]).permutation(300)[:9]
        model = make_readout("ridge", run["seed"]).fit(features[TRAIN][chosen], labels[TRAIN][chosen])
        assert run["top1"] == pytest.approx(100 * model.score(features[TEST], labels[TEST]))
        best = model.classes_[np.argsort(-model.decision_function(features[TEST]), axis=1)[:, :5]]
        assert run["top5"] == pytest.approx(100 * (best == labels[TEST][:, None]).any(axis=1).mean())
        lacking += not np.isin(labels[TEST], model.classes_).all()
    assert lacking == 2
    with pytest.raises(ValueError, match="9 of 300 rows cannot cover 10 classes"):
        labelled_subset(labels[TRAIN], 0.03)


class Pairs:
    """A stream that says no more than it must."""

    def __init__(self, images, labels):
        self.batches = [(images[i : i + 50], labels[i : i + 50]) for i in range(0, len(images), 50)]
        self.images, self.labels = len(images), True

    def state(self):
        return {"epoch": 0}

    def __iter__(self):
        return iter(self.batches)


def test_labels_come_from_the_batches_of_a_stream_without_them(network, digits, tmp_path, no_features):
    plain = [Pairs(digits[0][part], digits[1][part]) for part in (TRAIN, TEST)]
    with pytest.raises(ValueError, match=r"0.3 % \(1: all of one class with seed 0\); 3 % or more are enough"):
        evaluate(network, *plain, tmp_path / "out", fractions=[0.003])
    plain[1].batches = []
    with pytest.raises(ValueError, match="evaluate: test gave no image"):
        evaluate(network, *plain, tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("kind", [loaders.ArrayStream, Pairs])
@pytest.mark.parametrize(("split", "image"), [("train", 3), ("train", 299), ("test", 117)])
def test_images_that_are_not_finite_are_said_before_any_work(
    network, digits, tmp_path, split, image, kind, value, no_features
):
    images = {"train": digits[0][TRAIN].astype(np.float32), "test": digits[0][TEST].astype(np.float32)}
    images[split][image:, 2, 2] = value
    train, test = kind(images["train"], digits[1][TRAIN]), kind(images["test"], digits[1][TEST])
    with pytest.raises(
        ValueError, match=rf"evaluate: the images of {split} must be finite, but image {image} \(counted"
    ):
        evaluate(network, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bytes_are_not_read_before_their_features(network, digits, tmp_path):
    class Counted(loaders.ArrayStream):
        batches = 0

        def __iter__(self):
            for batch in super().__iter__():
                self.batches += 1
                yield batch

    data = [Counted(digits[0][part], digits[1][part], 50) for part in (TRAIN, TEST)]
    evaluate(network, *data, tmp_path, fractions=[1], baselines=[], queries=0)
    assert [stream.batches for stream in data] == [1 + 6, 1 + 3]


def test_repeated_fractions_count_once(network, digits, tmp_path):
    options = {"seeds": 2, "layers": ["bn2"], "baselines": [], "queries": 0}
    found = evaluate(network, *streams(digits), tmp_path, fractions=[0.5, 0.5, 1, 0.50, 1], **options)
    runs = [(run["labels"], run["seed"]) for run in found["sources"]["bn2"]["runs"]]
    assert runs == [(0.5, 0), (0.5, 1), (1.0, 0)]


@pytest.mark.parametrize("named", [True, False])
def test_the_confusion_table_names_its_classes(network, digits, tmp_path, named):
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
    found = evaluate(network, train, test, tmp_path, fractions=[0.03, 1], layers=["bn2"], baselines=[], queries=0)
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
def test_baselines_are_networks_in_the_same_pipeline(name, network, digits):
    images, _ = digits
    other, layer = baseline(name, network, images[:100], seed=0)
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
        again, _ = baseline(name, network, images[:100], seed=0)
        np.testing.assert_array_equal(next(iter(again.learners.values())).weights, filters)


def test_vectors_have_no_baselines_of_patches(digits, tmp_path):
    vectors = digits[0].reshape(len(digits[0]), -1)
    net = hebbcore.fit(hebbcore.Network([hebbcore.Dense(5)]), vectors[TRAIN])
    data = streams((vectors, digits[1]))
    found = evaluate(net, *data, tmp_path, fractions=[1], baselines=["pixels"], queries=0)
    assert found["sources"]["pixels"]["features"] == 64
    with pytest.raises(ValueError, match="random filters is of patches, but the network takes vectors"):
        evaluate(net, *data, tmp_path, fractions=[1], baselines=["random filters"], queries=0)


def test_a_report_that_cannot_be_drawn_is_said_before_any_work(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(command(files, "--out", str(tmp_path / "out"))) == 1
    assert 'needs Matplotlib; install hebbcore with the extra "plot"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_features_that_do_not_fit_are_streamed(network, digits, tmp_path, caplog):
    options = {"fractions": [1], "seeds": 1, "baselines": [], "layers": ["bn2"]}
    streamed = evaluate(network, *streams(digits), tmp_path / "a", memory="1 KiB", **options)
    held = evaluate(network, *streams(digits), tmp_path / "b", queries=0, **options)
    assert "fitted from the stream" in caplog.text
    accuracies = [found["sources"]["bn2"]["runs"][0]["top1"] for found in (streamed, held)]
    assert abs(accuracies[0] - accuracies[1]) < 5  # other rows are held out to choose the penalty
    with pytest.raises(ValueError, match='which only readout="ridge" can do without'):
        evaluate(network, *streams(digits), tmp_path / "c", memory="1 KiB", readout="knn", **options)


def test_the_grid_has_as_many_cells_as_features_allow(network):
    assert Source.of("a", network, "conv1", 12 * 36).features.grid is None
    assert Source.of("a", network, "conv1", 12 * 25 + 11).features.grid == 5
    assert Source.of("a", network, "conv1", 3).features.grid == 1
    assert Source.of("a", network, "fc2", 3).features.size == 16


@pytest.fixture(scope="module")
def files(network, digits, tmp_path_factory):
    """Return a folder with the network and the digits as files."""
    folder = tmp_path_factory.mktemp("evaluate")
    hebbcore.save(folder / "network.h5", network)
    with h5py.File(folder / "digits.h5", "w") as file:
        for split, part in (("train", TRAIN), ("test", TEST)):
            file[f"{split}/images"], file[f"{split}/labels"] = digits[0][part], digits[1][part]
    return folder


def command(files, *more):
    digits = str(files / "digits.h5")
    return ["evaluate", str(files / "network.h5"), "--train", digits, "--test", digits, *more]


def test_the_command_writes_a_complete_and_self_contained_report(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "report"
    assert main(command(files, "--out", str(out), "--labels", "20,100", "--seeds", "2", "--queries", "20")) == 0
    assert "mirror" not in (out / "report.md").read_text()
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == {
        "accuracy.png", "filters.png", "report.html", "report.md", "results.json"
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert set(results["sources"]) == {"bn1", "bn2", *BASELINES}
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for name in results["sources"]:
        assert name in printed.out
        assert f"| {name} |" in text
        assert f"<td>{name}</td>" in page
    for row in accuracy_table(Results.from_json(results), lambda run: run.top1)[1:]:
        assert all(figure in page for figure in row)
        assert re.fullmatch(r"\d+\.\d ± \d+\.\d", row[2])
        assert re.fullmatch(r"\d+\.\d", row[3])  # all labels: one selection
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # nothing from elsewhere
    assert page.count("<table>") == page.count("</table>") == 5
    assert main(command(files, "--out", str(out), "--labels", "20,100", "--seeds", "2", "--queries", "20")) == 0
    assert "seed" not in capsys.readouterr().err  # nothing was left to do


def test_a_report_says_that_features_are_mirrored(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = ("--labels", "100", "--baselines", "none", "--queries", "0", "--out", str(tmp_path))
    assert main(command(files, "--mirror", *options)) == 0
    assert "averaged over each image and its mirror image" in (tmp_path / "report.md").read_text()
    assert main(command(files, *options)) == 1
    assert "holds another evaluation" in capsys.readouterr().err


def test_what_does_not_beat_random_filters_is_shown_as_such(tmp_path):
    def entry(accuracy):
        runs = [{"labels": 1.0, "seed": 0, "top1": accuracy, "top5": 90.0}]
        return {"features": 10, "cells": None, "runs": runs, "confusion": None, "retrieval": None}

    pytest.importorskip("matplotlib")
    results = {
        "settings": {
            "weights": "", "train": {}, "test": {}, "readout": "ridge", "how": "published", "features": 10,
            "mirror": False, "queries": 0,
        },
        "classes": [],
        "sources": {"bn1": entry(40.0), "bn2": entry(60.0), "random filters": entry(50.0), "pixels": entry(30.0)},
    }  # fmt: skip
    write_report(tmp_path, results, "title")
    assert "No better than random filters of the first layer's size: bn1." in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--layers", "bn9"], 1, "layer must be one of 'conv1', 'pool1', 'bn1', 'fc2', 'bn2'; got 'bn9'"),
        (["--baselines", "kmeans"], 1, "Did you mean 'k-means'"),
        (["--seeds", "0"], 1, "seeds must be at least 1"),
        (["--features", "0"], 1, "features must be at least 1"),
        (["--queries", "-1"], 1, "queries must be at least 0"),
        (["--memory", "lots"], 1, "memory must be bytes or text"),
        (["--image-size", "8"], 1, "image-size is for shards"),
        (["--labels", "0,10"], 2, "must be above 0 and at most 100"),
        (["--labels", "ten"], 2, "must be percentages such as 1,10,100"),
        (["--readout", "forest"], 2, "invalid choice"),
    ],
)
def test_wrong_use_is_said_without_a_traceback(more, status, message, files, tmp_path, capsys):
    arguments = command(files, "--out", str(tmp_path / "out"), *more)
    if status == 2:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
    else:
        assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_file_that_is_missing_or_holds_a_layer(files, tmp_path, capsys, digits):
    layer = hebbcore.train_layer(digits[0][:50], 3, 3, rule="swta")
    hebbcore.save(tmp_path / "layer.h5", layer)
    arguments = command(files, "--out", str(tmp_path / "out"))
    assert main([arguments[0], str(tmp_path / "layer.h5"), *arguments[2:]]) == 1
    assert "holds a single layer, not a network" in capsys.readouterr().err
    assert main([arguments[0], str(tmp_path / "none"), *arguments[2:]]) == 1
    assert "does not exist" in capsys.readouterr().err
