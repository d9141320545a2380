"""What a FewLabelClassifier is given as labels: texts, columns of pandas, booleans, and what it refuses."""

import numpy as np
import pytest
from classify_helpers import blobs
from sklearn.datasets import load_digits

from hebbcore.classify import FewLabelClassifier, classifier
from hebbcore.classify.learn import Images


def test_texts_with_none():
    features, true, y = blobs()
    names = np.array(["ant", "bee", "cat", "dog"], object)
    texts = [names[label] if label >= 0 else None for label in y]
    model = FewLabelClassifier().fit(features, texts)
    assert model.classes_.tolist() == names.tolist()
    assert np.mean(model.transduction_ == names[true]) > 0.95
    np.testing.assert_array_equal(
        model.predict(features), names[FewLabelClassifier().fit(features, y).predict(features)]
    )
    for gap in (-1, np.nan):  # NumPy would make texts of a list with them; NaN is what pandas reads an empty cell as
        mixed = [gap if text is None else text for text in texts]
        for y in (mixed, np.array(mixed, object)):
            assert FewLabelClassifier().fit(features, y).classes_.tolist() == names.tolist()


def test_labels_of_pandas_and_of_booleans_keep_their_type():
    pandas = pytest.importorskip("pandas")
    features, true, y = blobs()
    names = np.array(["ant", "bee", "cat", "dog"], object)
    texts = pandas.Series([names[label] if label >= 0 else None for label in y])
    for column in (texts, texts.astype("string"), texts.astype("category")):
        assert FewLabelClassifier().fit(features, column).classes_.tolist() == names.tolist()
    expected = FewLabelClassifier().fit(features, y)
    numbers = pandas.Series(y, dtype="Int64").mask(y < 0)
    for column in (numbers, numbers.astype("Float64"), numbers.astype(object), numbers.array):
        model = FewLabelClassifier().fit(features, column)
        np.testing.assert_array_equal(model.transduction_, expected.transduction_)
    with pytest.raises(ValueError, match="Input y contains infinity or NaN; −1 is no label"):
        FewLabelClassifier().fit(features, numbers.astype("float64"))
    model = FewLabelClassifier().fit(features, [bool(label) if label >= 0 else None for label in y])
    assert model.classes_.dtype == model.transduction_.dtype == model.predict(features).dtype == bool
    assert np.mean(model.transduction_ == (true > 0)) > 0.95


@pytest.mark.parametrize("kind", [np.int64, np.float32, list, object])
def test_numbers_below_the_one_for_no_label_are_refused(kind):
    features, _, y = blobs()
    y[np.flatnonzero(y < 0)[0]] = -2
    given = y.tolist() if kind is list else y.astype(kind)
    with pytest.raises(ValueError, match=r"fit: y must be −1 for no label and numbers from 0 for classes, got -2"):
        FewLabelClassifier().fit(features, given)


def test_a_fit_that_fails_changes_nothing():
    features, _, y = blobs()
    model = FewLabelClassifier().fit(features, y)
    before, guesses = dict(vars(model)), model.predict(features)
    for given, labels in ((features[:, :5], y[:-1]), (features[:50], np.full(50, np.nan))):
        with pytest.raises(ValueError, match=r"FewLabelClassifier\.fit: "):
            model.fit(given, labels)
        assert vars(model).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(model).items())
    np.testing.assert_array_equal(model.predict(features), guesses)


@pytest.mark.parametrize("changed", [{"random_state": 1}, {"neighbours": "exact"}, {"neighbour_features": [0, 1]}])
def test_what_relearn_keeps_cannot_be_set_before_it(changed):
    features, _, y = blobs()
    model = FewLabelClassifier(neighbour_features=np.arange(3)).fit(features, y)
    model.set_params(prior="uniform", neighbour_features=[0, 1, 2]).relearn(y)
    (name,) = changed
    with pytest.raises(ValueError, match=rf"relearn: {name} was set from .* after the graph was made"):
        model.set_params(**changed).relearn(y)
    other = FewLabelClassifier(**changed).fit_state(model.set_params(random_state=0).images_state(), y)
    other.relearn(y)


def test_progress_that_is_set_after_a_fit_is_told_of_the_graph(monkeypatch):
    monkeypatch.setattr("hebbcore.evaluation.ridge.meter._SECONDS", 0.0)
    features, _, y = blobs(90, 3)
    told, before = [], []
    model = FewLabelClassifier(progress=before.append).fit(features, np.full(len(features), -1))
    count = len(before)
    model.set_params(progress=told.append).relearn(y)  # the first labels, for which the graph is made
    assert any(line.startswith("neighbours: ") for line in told)
    assert len(before) == count


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("columns", lambda a: a + 10**6, "columns and starts must be integers that say where"),
        ("columns", lambda a: -1 - a, "columns and starts"),
        ("columns", lambda a: a.astype(float), "columns and starts"),
        ("columns", lambda a: np.zeros_like(a), "columns and starts"),  # hardly a diagonal
        ("starts", lambda a: a + 10**6, "columns and starts"),
        ("starts", lambda a: a[:-1], "columns and starts"),
        ("laplacian", lambda a: a[:-1], r"laplacian must have shape \(\d+,\)"),
        ("roots", lambda a: np.full_like(a, np.nan), "roots must be finite floats"),
        ("shares", lambda a: a[1:], "shares must have shape"),
        ("rows", lambda a: a[:, 1:], "rows must have shape"),
        ("axes", lambda a: a[:, 1:], "axes must have shape"),
        ("rows", None, r"the state lacks \['rows'\]"),
    ],
)
def test_a_state_of_images_whose_arrays_do_not_fit_is_refused(name, change, message):
    """Kernels go by the links that they tell of."""
    features, _, y = blobs(90, 3)
    arrays = FewLabelClassifier().fit(features, y).images_state()
    wrong = arrays.pop(name)
    if change is not None:
        arrays[name] = change(wrong)
    with pytest.raises(ValueError, match=f"^FewLabelClassifier.fit_state: {message}"):
        FewLabelClassifier().fit_state(arrays, y)


@pytest.mark.parametrize("before", [2, 4])
def test_who_predicts_beside_relearn_sees_the_labels_of_before(before, monkeypatch):
    features, true, y = blobs()
    few = np.where(true < before, y, -1)
    model = FewLabelClassifier().fit(features, few)
    expected, likely = model.predict(features), model.predict_proba(features)
    seen = []

    def predictor(images, *given):
        np.testing.assert_array_equal(model.predict(features), expected)
        np.testing.assert_array_equal(model.predict_proba(features), likely)
        assert model.classes_.tolist() == list(range(before))
        seen.append(own(images, *given))
        return seen[-1]

    own = Images.predictor
    monkeypatch.setattr(Images, "predictor", predictor)
    model.relearn(np.where(true < 6 - before, y, -1))
    assert len(seen) > 1
    assert model.classes_.tolist() == list(range(6 - before))
    assert model.predict_proba(features).shape[1] == 6 - before


@pytest.mark.parametrize("early", [None, lambda: None])
def test_a_relearn_that_is_interrupted_leaves_answers_that_belong_together(early, monkeypatch):
    features, true, y = blobs()
    model = FewLabelClassifier().fit(features, np.where(true < 2, y, -1))

    def stops(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier, "judged", stops)
    with pytest.raises(KeyboardInterrupt):
        model.relearn(y, early)
    assert model.classes_.tolist() == list(range(2 if early is None else 4))
    np.testing.assert_allclose(model.label_distributions_, model.predict_proba(features), atol=1e-6)
    assert len(model.suggest(3)) == 3


@pytest.mark.parametrize("gap", [b"", b" ", None])
def test_texts_as_bytes_have_gaps_too(gap):
    features, _, y = blobs()
    names = np.array([b"ant", b"bee", b"cat", b"dog", gap], object)  # as h5py gives texts
    assert FewLabelClassifier().fit(features, names[y]).classes_.tolist() == names[:4].tolist()
    with pytest.raises(TypeError, match="fit: y must be all texts or all numbers"):
        FewLabelClassifier().fit(features, np.where(np.arange(len(y)) < 3, 1, names[y]))


def test_names_of_features_are_those_of_the_last_fit():
    pandas = pytest.importorskip("pandas")
    features, _, y = blobs()
    state = FewLabelClassifier().fit(features, y).images_state()
    model = FewLabelClassifier().fit(pandas.DataFrame(features).add_prefix("f"), y)
    assert len(model.feature_names_in_) == features.shape[1]
    model.fit_state(state, y)
    assert not hasattr(model, "feature_names_in_")


def test_pickles_of_before_predict():
    features, _, y = blobs()
    model = FewLabelClassifier().fit(features, y)
    state = model.__getstate__()
    parts = state.pop("_answers")
    names = {"_space": "space", "_coef": "coef", "_intercept": "intercept", "_sharpness": "sharpness"}
    of_before = {old: getattr(parts, name) for old, name in names.items()}
    again = FewLabelClassifier()
    again.__setstate__(state | of_before)
    np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))
    np.testing.assert_array_equal(again.relearn(y).predict_proba(features), model.predict_proba(features))


@pytest.mark.parametrize("labelled", [40, 400])
def test_the_names_of_classes_decide_nothing(labelled):
    digits = load_digits()
    features, true = np.round(digits.data[:600, 20:30] / 8), digits.target[:600]  # few values, and many ties
    names = np.array(list("abcdefghij"))
    models, found = [], []
    for order in (np.arange(10), np.random.default_rng(0).permutation(10)):
        y = names[order][true].astype(object)
        y[labelled:] = None
        model = FewLabelClassifier().fit(features, y)
        models.append(model)
        found.append(model.predict_proba(features)[:, order])
    one, other = models
    np.testing.assert_allclose(*found, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(one.class_shares_, other.class_shares_[order])
    np.testing.assert_array_equal(one.doubts_, other.doubts_)
    np.testing.assert_allclose(one.estimated_accuracy_, other.estimated_accuracy_, rtol=1e-12)
    np.testing.assert_array_equal(names[order][names.searchsorted(one.transduction_)], other.transduction_)


def test_features_give_the_same_guesses_however_they_lie_in_memory():
    digits, true = load_digits(return_X_y=True)
    features, y = (digits[:300] / 16).astype(np.float32), np.full(300, -1)  # many distances are equal
    y[:60] = true[:60]
    expected = FewLabelClassifier().fit(features, y)
    model = FewLabelClassifier().fit(np.asfortranarray(features), y)  # as NumPy's array of a table of pandas does
    np.testing.assert_array_equal(model.label_distributions_, expected.label_distributions_)
    np.testing.assert_array_equal(model.predict_proba(np.asfortranarray(features)), expected.predict_proba(features))


@pytest.mark.parametrize("unit", ["datetime64[s]", "timedelta64[s]"])
def test_dates_are_no_features(unit):
    features, _, y = blobs()
    dates = features.astype(np.int64).astype(unit)
    model = FewLabelClassifier().fit(features, y)
    for method in (lambda: model.predict(dates), lambda: FewLabelClassifier().fit(dates, y)):
        with pytest.raises(TypeError, match=r"X must be an array of numbers, got ndarray"):
            method()


@pytest.mark.parametrize("gap", [-1, None, ""])
def test_rows_without_a_label_do_not_count_in_a_score(gap):
    features, true, y = blobs()
    names = true.astype(np.int64) if gap == -1 else np.array(["ant", "bee", "cat", "dog"], object)[true]
    given = np.where(y < 0, gap, names)
    model = FewLabelClassifier().fit(features, given)
    known, weights = y >= 0, np.arange(len(y))
    given[np.flatnonzero(known)[:3]] = names[np.flatnonzero(true == 3)[0]]  # some are wrong
    right = (model.predict(features) == given)[known]
    assert model.score(features, given) == np.mean(right) < 1
    assert model.score(features, given, weights) == pytest.approx(np.average(right, weights=weights[known]))
    with pytest.raises(TypeError, match=r"FewLabelClassifier\.score: y are (texts|numbers), but the classes "):
        model.score(features, true if gap != -1 else true.astype(str))
    with pytest.raises(ValueError, match=r"FewLabelClassifier\.score: no row has a label"):
        model.score(features, np.full(len(y), gap, given.dtype))


@pytest.mark.parametrize("size", [30, 90])
def test_numbers_whose_squares_float64_does_not_hold_are_refused(size, generator):
    features, y = 1e200 * generator.standard_normal((40, size)), np.arange(40) % 2
    with pytest.raises(ValueError, match=r"FewLabelClassifier\.fit: X holds numbers so large that their squares leave"):
        FewLabelClassifier().fit(features, y)
    with pytest.raises(ValueError, match=r"FewLabelClassifier\.fit: X holds numbers so large that their squares leave"):
        FewLabelClassifier().fit(1e107 * np.abs(features), y)  # whose sum it does not hold either
    with pytest.raises(ValueError, match=r"FewLabelClassifier\.fit: the numbers of X differ by so little"):
        FewLabelClassifier().fit(1e-200 * (1e-200 * features), y)
