"""Data, classes and labels that an evaluation refuses or takes, said before any work."""

import numpy as np
import pytest
from evaluate_helpers import TEST, TRAIN, streams

import hebbcore
import loaders
from hebbcore.evaluation import evaluate as module
from hebbcore.evaluation import make_readout, survey
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.evaluation.report import write_report
from hebbcore.evaluation.splits import labelled_subset

pytest_plugins = "evaluate_helpers"


BROKEN = [
    b"", b"[]", b"\xff\xfe", b"{}", b'{"mine": 1}', b'{"settings": 1, "classes": [], "sources": {}}',
    b'{"settings": {}, "sources": {}}', b'{"settings": {}, "classes": [], "sources": []}',
    b'{"settings": {}, "classes": [], "sources": {"bn1": {"runs": {}, "confusion": null, "retrieval": null}}}',
    b'{"settings": {}, "classes": [], "sources": {"bn1": []}}',
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_a_file_of_results_that_are_none_is_named_and_kept(trained, digits, tmp_path, content, no_features):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"evaluate: {path} is damaged, or not what this version writes; name another"):
        evaluate(trained, *streams(digits), tmp_path, fractions=[1])
    assert path.read_bytes() == content


def test_another_evaluation_is_told_by_what_differs(trained, digits, tmp_path):
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    evaluate(trained, *streams(digits), tmp_path, **options)
    train = streams(digits)[0]
    message = (
        f"evaluate: {tmp_path} holds another evaluation: "
        r"test.shape\[0\] is 300 here and 120 there; .*test.images is 300 here and 120 there; "
        "readout is 'svm' here and 'ridge' there; mirror is True here and False there; name another folder"
    )
    with pytest.raises(ValueError, match=message):
        evaluate(trained, train, train, tmp_path, **options, readout="svm", mirror=True)


def test_other_batches_are_the_same_evaluation(trained, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BASELINE_IMAGES", 120)
    options = {"layers": ["bn2"], "baselines": ["k-means"], "queries": 0}
    small, large = streams(digits, 50), streams(digits, 64)
    evaluate(trained, *small, tmp_path / "a", fractions=[1], **options)
    next(iter(small[0]))  # a loop that is left in the middle is none either
    evaluate(trained, *small, tmp_path / "a", fractions=[1], **options)
    again = evaluate(trained, *large, tmp_path / "a", fractions=[0.5, 1], **options)
    whole = evaluate(trained, *large, tmp_path / "b", fractions=[1, 0.5], **options)
    assert again == whole


def test_other_pixels_are_another_evaluation(trained, digits, tmp_path):
    loaders.write_shards(digits, tmp_path / "shards")
    whole = loaders.ShardStream(tmp_path / "shards", batch_size=50, subset=100)
    cut = loaders.ShardStream(tmp_path / "shards", batch_size=50, subset=100, transform=loaders.CenterCrop(8, 9))
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    evaluate(trained, whole, whole, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluate(trained, cut, whole, tmp_path / "out", **options)


@pytest.mark.parametrize("shuffled", ["train", "test"])
def test_shuffled_streams_are_refused(trained, digits, tmp_path, shuffled):
    loaders.write_shards(digits, tmp_path / "shards")
    train, test = (loaders.ShardStream(tmp_path / "shards", shuffle=name == shuffled) for name in ("train", "test"))
    with pytest.raises(ValueError, match=f"evaluate: {shuffled} must be in its stored order"):
        evaluate(trained, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def no_features(monkeypatch):
    """Let every computation of features fail."""

    def refused(*arguments, **options):
        raise AssertionError("features were computed")

    monkeypatch.setattr(hebbcore.Network, "features", refused)
    monkeypatch.setattr(module, "baseline", refused)


def test_classes_of_other_numbers_are_refused(trained, digits, tmp_path, no_features):
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
        evaluate(trained, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_test_set_without_the_last_class_is_numbered_alike(trained, digits, tmp_path):
    images, labels = digits
    kept = labels[TEST] < 9
    loaders.write_shards((images[TRAIN], labels[TRAIN]), tmp_path / "train")
    loaders.write_shards((images[TEST][kept], labels[TEST][kept]), tmp_path / "test")
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    shards = [loaders.ShardStream(tmp_path / name) for name in ("train", "test")]
    assert [len(stream.class_names) for stream in shards] == [10, 9]
    found = evaluate(trained, *shards, tmp_path / "a", **options)
    arrays = streams(digits)[0], loaders.ArrayStream(images[TEST][kept], labels[TEST][kept])
    assert found["sources"] == evaluate(trained, *arrays, tmp_path / "b", **options)["sources"]


CALLED = ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (("0", "1", "2"), CALLED, CALLED), (("0", "1", "2", "3"), CALLED, CALLED), (("0", "1"), CALLED, CALLED),
        (("0", "1", "2"), None, ("0", "1", "2")), (("0", "1", "2"), ("0", "1"), ("0", "1", "2")),
        (("0", "1", "2"), ("00", "01", "02"), ("00", "01", "02")), (CALLED, CALLED[:2], CALLED), (None, None, ()),
    ],
)  # fmt: skip
def test_classes_that_are_called_by_their_numbers_may_have_names_in_the_other_set(one, other, expected):
    named = [loaders.ArrayStream(np.zeros((2, 8, 8, 1)), np.arange(2), class_names=names) for names in (one, other)]
    assert survey.class_names("evaluate", *named) == expected
    assert survey.class_names("evaluate", *named[::-1]) == expected


@pytest.mark.parametrize("other", [("0", "1", "3", "4"), ("1", "2"), ("dog", "cat", "owl")])
def test_classes_of_which_one_number_is_missing_or_that_are_in_another_order_are_refused(other):
    one = CALLED if "cat" in other else ("0", "1", "2", "3")  # as of class folders of which one is missing
    named = [loaders.ArrayStream(np.zeros((2, 8, 8, 1)), np.arange(2), class_names=names) for names in (one, other)]
    for pair in (named, named[::-1]):
        with pytest.raises(ValueError, match="train and test must number their classes alike, but class"):
            survey.class_names("evaluate", *pair)


def test_shards_of_arrays_are_judged_beside_names(trained, digits, tmp_path):
    images, labels = digits
    names = [f"digit {i}" for i in range(10)]
    loaders.write_shards((images[TRAIN], labels[TRAIN]), tmp_path / "train")
    test = loaders.ArrayStream(images[TEST], labels[TEST], class_names=names)
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    found = evaluate(trained, loaders.ShardStream(tmp_path / "train"), test, tmp_path / "out", **options)
    assert found["classes"] == names


def test_classes_that_no_training_image_has_are_refused(trained, digits, tmp_path, no_features):
    images, labels = digits
    kept = ~np.isin(labels[TRAIN], [2, 7])
    train = loaders.ArrayStream(images[TRAIN][kept], labels[TRAIN][kept])
    count = np.isin(labels[TEST], [2, 7]).sum()
    message = f"evaluate: {count} images of test are of classes that no image of train has: 2, 7; leave them out"
    with pytest.raises(ValueError, match=message):
        evaluate(trained, train, streams(digits)[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        (
            {"fractions": [0.001, 0.002, 0.005, 1], "seeds": 1, "readout": "svm"}, 300,
            r"too few of the 300 training images have labels to fit a classifier: 0.1 % \(0: none with seed 0\); "
            r"0.2 % \(1: all of one class with seed 0\); 0.5 % \(2: no class has two, of which one is held out to "
            r"choose the readout's penalty with seed 0\); 1.67 % or more are enough",
        ),
        (
            {"fractions": [0.02, 0.04], "how": "stratified"}, 300,
            r"classifier: 2 % \(6: a stratified selection has at least one of each of 10 classes\); 3.34 % or more",
        ),
        ({"fractions": [0.05], "readout": "knn"}, 300, r"knn needs 20 besides those held out .*; 8.34 % or more"),
        ({"fractions": [0.001, 0.002, 0.005]}, 300, r"0.2 % \(1: all of one class with seed 0\); 0.67 % or more"),
        (
            {"fractions": [1], "readout": "svm"}, 10,
            r"100 % \(10: no class has two, of which one is held out .* penalty\); add images to",
        ),
        ({"fractions": [0.5, 1]}, 1, r"50 % \(0: none with seed 0\); 100 % \(1: all of one class\); add images"),
        ({"layers": [], "baselines": []}, 300, "neither layers nor baselines names anything to evaluate; name one"),
        ({"fractions": [], "queries": 0}, 300, "fractions is empty and queries 0: nothing is measured; give one"),
        ({"how": "random"}, 300, "how must be one of 'published', 'stratified'; got 'random'"),
    ],
)  # fmt: skip
def test_too_few_labels_are_said_before_any_work(trained, digits, tmp_path, options, count, message, no_features):
    images, labels = digits[0][:count], digits[1][:count]
    data = loaders.ArrayStream(images, labels)
    with pytest.raises(ValueError, match=f"evaluate: .*{message}"):
        evaluate(trained, data, data, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("readout", "memory", "little", "enough"),
    [("ridge", "1 MiB", 0.003, 0.0067), ("ridge", "64 KiB", 0.003, 0.0067), ("svm", "1 MiB", 0.02, 0.03)],
)
def test_what_is_said_to_be_enough_is_enough(trained, digits, tmp_path, readout, memory, little, enough):
    options = {"layers": ["bn1"], "baselines": [], "queries": 0, "memory": memory, "readout": readout}
    with pytest.raises(ValueError, match=rf"; {100 * enough:g} % or more are enough"):
        evaluate(trained, *streams(digits), tmp_path / "a", fractions=[little], **options)
    found = evaluate(trained, *streams(digits), tmp_path / "b", fractions=[enough], **options)
    assert len(found["sources"]["bn1"]["runs"]) == 5


def test_a_published_selection_may_lack_classes_whose_images_count_as_wrong(trained, digits, tmp_path):
    images, labels = digits
    found = evaluate(
        trained, *streams(digits), tmp_path, fractions=[0.03], seeds=2, layers=["bn2"], baselines=[], queries=0
    )  # fmt: skip
    features = trained.transform(images, "bn2")
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


def test_labels_come_from_the_batches_of_a_stream_without_them(trained, digits, tmp_path, no_features):
    plain = [Pairs(digits[0][part], digits[1][part]) for part in (TRAIN, TEST)]
    with pytest.raises(ValueError, match=r"0.3 % \(1: all of one class with seed 0\); 0.67 % or more are enough"):
        evaluate(trained, *plain, tmp_path / "out", fractions=[0.003])
    plain[1].batches = []
    with pytest.raises(ValueError, match="evaluate: test gave no image"):
        evaluate(trained, *plain, tmp_path / "out")


@pytest.mark.parametrize("kind", [np.float32, np.uint64, np.bool_])
def test_labels_of_any_type_of_numbers_are_numbers_of_classes(trained, digits, tmp_path, kind):
    pytest.importorskip("matplotlib")
    images, labels = digits
    options = {"fractions": [1], "layers": ["bn2"], "baselines": [], "queries": 0}
    given, whole = (
        [Pairs(images[part], labels[part].astype(some).astype(to)) for part in (TRAIN, TEST)]
        for some, to in ((kind, kind), (kind, np.int64))
    )
    found = evaluate(trained, *given, tmp_path / "given", **options)
    assert found == evaluate(trained, *given, tmp_path / "given", **options)  # which reads the file
    assert found == evaluate(trained, *whole, tmp_path / "whole", **options)
    write_report(tmp_path / "given", found, "title")
    if kind != np.bool_:
        many = Pairs(images[TRAIN], labels[TRAIN].astype(kind) + kind(2**63))
        with pytest.raises(ValueError, match=r"evaluate: the labels of train must be below 2\*\*63, got "):
            evaluate(trained, many, given[1], tmp_path / "many", **options)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("kind", [loaders.ArrayStream, Pairs])
@pytest.mark.parametrize(("split", "image"), [("train", 3), ("train", 299), ("test", 117)])
def test_images_that_are_not_finite_are_said_before_any_work(
    trained, digits, tmp_path, split, image, kind, value, no_features
):
    images = {"train": digits[0][TRAIN].astype(np.float32), "test": digits[0][TEST].astype(np.float32)}
    images[split][image:, 2, 2] = value
    train, test = kind(images["train"], digits[1][TRAIN]), kind(images["test"], digits[1][TEST])
    with pytest.raises(
        ValueError, match=rf"evaluate: the images of {split} must be finite, but image {image} \(counted"
    ):
        evaluate(trained, train, test, tmp_path / "out")
    assert not (tmp_path / "out").exists()
