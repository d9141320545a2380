"""FewLabelClassifier: against a slow program of its whole algorithm, hard cases, and scikit-learn's own checks."""

import json
import pickle

import numpy as np
import pytest
from classify_helpers import blobs, shared_weights
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.semi_supervised import LabelSpreading
from sklearn.utils.estimator_checks import parametrize_with_checks

from hebbcore.classify import FewLabelClassifier, poisson, space
from hebbcore.classify.balance import balancing_bias

EXPECTED = {
    "check_classifiers_classes": "−1 is no label; the check knows scikit-learn's own by name",
    "check_methods_sample_order_invariance": "products in float32 may round a row by its place, see the test below",
}


@parametrize_with_checks([FewLabelClassifier()], expected_failed_checks=lambda _: EXPECTED)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def test_the_order_of_images_changes_the_rounding_alone(generator):
    features, _, y = blobs(200, 4, 3)
    model, order = FewLabelClassifier().fit(features, y), generator.permutation(len(features))
    np.testing.assert_allclose(model.predict_proba(features[order]), model.predict_proba(features)[order], atol=1e-5)


def slow_likeness(features):
    """Return how like each of at most 1,000 images is to each, exp(−‖x − y‖² / (2 d)) of standardised features."""
    rows = features.astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    return np.exp(-((rows[:, None] - rows[None]) ** 2).mean(axis=2) / 2)


def slow_refit(features, y):
    """Return the guesses of the regime "refit", by dense float64 linear algebra."""
    rows = features.astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    kept = values > 1e-7 * values[-1]
    values, components = values[kept], rows @ vectors[:, kept]

    def unit(power):
        scaled = components * values**power
        return scaled / np.linalg.norm(scaled, axis=1, keepdims=True)

    near, wide = unit(-3 / 8), unit(-1 / 4)
    squares = ((near[:, None] - near[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    first = shared_weights(np.argsort(squares, axis=1)[:, :30])
    weights, known = first, y >= 0
    targets = np.eye(y.max() + 1)[np.maximum(y, 0)] * known[:, None]
    shares = targets[known].mean(axis=0)  # as many labels of each class: no smoothing
    sources = np.where(known[:, None], targets - shares, 0)
    squares = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False) ** 2
    penalty = 0.03 * squares.sum() / wide.shape[1]
    if (squares / (squares + penalty)).sum() > len(wide) / 5:
        penalty = brentq(lambda found: (squares / (squares + found)).sum() - len(wide) / 5, penalty, squares.sum())
    for _ in range(3):
        degrees = weights.sum(axis=1)
        potentials = np.linalg.lstsq(np.diag(degrees) - weights, sources, rcond=None)[0]
        potentials -= degrees @ potentials / degrees.sum()
        guesses = np.where(known, y, (potentials + balancing_bias(potentials, shares)).argmax(axis=1))
        scores = Ridge(penalty).fit(wide, np.eye(y.max() + 1)[guesses]).predict(wide)
        above = scores - scores.mean(axis=0)
        above /= np.linalg.norm(above, axis=1, keepdims=True)
        weights = first * np.exp(-3 * (1 - above @ above.T))
    return scores


@pytest.mark.parametrize("few", [0, 64])
def test_it_is_the_algorithm(monkeypatch, few):
    monkeypatch.setattr(poisson, "_RESIDUAL", 1e-5)
    monkeypatch.setattr(poisson, "_OF_A_LABEL", 1e-6)
    monkeypatch.setattr(space, "FEW", few)
    features, _, y = blobs(300, spread=4.0)
    model = FewLabelClassifier().fit(features, y)
    scores = slow_refit(slow_likeness(features) if few else features, y)
    assert model.regime_ == "refit"
    assert np.mean(scores.argmax(axis=1) == model.predict(features)) > 0.98
    own = model._images.rows @ model._answers.coef + model._answers.intercept
    assert np.corrcoef(own.ravel(), scores.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("labels", "name"), [(3, "refit"), (30, "stack"), (400, "ridge")])
def test_each_regime_learns(labels, name):
    features, _, y = blobs(2000, 4, labels, spread=2.5)
    model = FewLabelClassifier().fit(features, y)
    assert model.regime_ == name
    fresh, answers, _ = blobs(400, 4, 3, spread=2.5, seed=1)
    assert model.score(fresh, answers) > 0.85
    likely = model.predict_proba(fresh)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[likely.argmax(axis=1)], model.predict(fresh))


def test_labels_spread_further_than_label_spreading_takes_them():
    features, true, y = blobs(1000, 4, 1, spread=3.5)
    model, other = FewLabelClassifier().fit(features, y), LabelSpreading("knn", n_neighbors=10).fit(features, y)
    hidden = y < 0
    assert np.mean(model.transduction_[hidden] == true[hidden]) > np.mean(other.transduction_[hidden] == true[hidden])


def test_given_labels_stay_and_guesses_are_those_of_predict():
    features, true, y = blobs(spread=4.0)
    y[:40] = (true[:40] + 1) % 4
    model = FewLabelClassifier().fit(features, y)
    np.testing.assert_array_equal(model.transduction_[y >= 0], y[y >= 0])
    np.testing.assert_array_equal(model.transduction_[y < 0], model.predict(features)[y < 0])
    np.testing.assert_allclose(model.label_distributions_, model.predict_proba(features), atol=1e-5)


def test_wrong_labels_are_doubted():
    features, true, y = blobs(labels=10)
    wrong = np.flatnonzero(y >= 0)[::5]
    y[wrong] = (true[wrong] + 1) % 4
    model = FewLabelClassifier().fit(features, y)
    assert set(model.doubts_) <= set(wrong)
    assert len(model.doubts_) >= 0.8 * len(wrong)
    assert np.mean(model.predict(features) == true) > 0.95
    assert not len(FewLabelClassifier().fit(features, blobs(labels=10)[2]).doubts_)


def test_skewed_classes():
    shares = np.array([1, 1, 4, 14]) / 20
    features, true, _ = blobs(2000, 4, spread=2.5, weights=shares)
    y = np.full(len(true), -1)
    chosen = np.random.default_rng(0).choice(len(true), 60, replace=False)
    y[chosen] = true[chosen]
    model = FewLabelClassifier().fit(features, y)
    assert np.abs(model.class_shares_ - shares).max() < 0.1
    given = FewLabelClassifier(dict(enumerate(shares))).fit(features, y)
    np.testing.assert_allclose(given.class_shares_, shares)
    uniform = FewLabelClassifier("uniform").fit(features, y)
    np.testing.assert_allclose(uniform.class_shares_, 0.25)
    right = [np.mean(fitted.predict(features) == true) for fitted in (uniform, model, given)]
    assert min(right[1:]) > max(right[0], 0.87)


def test_shares_are_seen_though_each_class_has_as_many_labels():
    shares = np.array([1, 1, 4, 14]) / 20
    features, _, y = blobs(2000, 4, 10, weights=shares)
    assert np.abs(FewLabelClassifier().fit(features, y).class_shares_ - shares).max() < 0.15  # counts: 0.45


def test_many_classes_and_single_labels():
    features, true, y = blobs(3000, 200, 1, spread=0.3)
    model = FewLabelClassifier().fit(features, y)
    assert np.mean(model.transduction_ == true) > 0.9
    assert model.estimated_accuracy_ is None
    assert model.calibration_error_ is None


def test_hard_graphs(generator):
    """Duplicates, rows of equal features, far ones, and clusters that nothing links, some without a label."""
    features, true, y = blobs(400, 4, 3, spread=0.01)
    copies = np.repeat(features[true == 0][-1:], 50, axis=0)  # of an image without a label
    features = np.concatenate([features, copies, np.zeros((3, 20)), np.full((1, 20), 1e3)])
    y = np.concatenate([y, np.full(54, -1)])
    y[y == 3] = -1
    model = FewLabelClassifier().fit(features.astype(np.float32), y)
    assert np.isfinite(model.label_distributions_).all()
    assert (model.transduction_[400:450] == 0).all()
    features[-1] = 1e6  # beside which the others are alike
    assert np.isfinite(FewLabelClassifier().fit(features.astype(np.float32), y).label_distributions_).all()
    for wide in (3, 40):  # fewer features than images, and more
        constant = FewLabelClassifier().fit(np.ones((6, wide), np.float32), [0, 1, -1, -1, -1, -1])
        assert np.isfinite(constant.predict_proba(np.zeros((2, wide)))).all()
        assert len(constant.suggest(9)) == 4
    assert FewLabelClassifier().fit([[0.0], [1.0]], [0, 1]).predict([[0.0], [1.0]]).shape == (2,)


@pytest.mark.parametrize(("value", "says"), [(np.nan, "NaN"), (np.inf, "infinity"), (1e300, r"X\[3\] .* for float32")])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on the way to the error
def test_features_that_are_no_numbers_get_no_class(value, says):
    features, _, y = blobs(200, 2, 5)
    model, bad = FewLabelClassifier().fit(features.astype(np.float64), y), features[:5].astype(np.float64)
    bad[3, 1] = value
    for method in (model.predict, model.predict_proba):
        with pytest.raises(ValueError, match=says):
            method(bad)


def test_the_estimate_holds_the_accuracy():
    features, true, y = blobs(2000, 4, 12, spread=6.0)
    model = FewLabelClassifier().fit(features, y)
    value, low, high = model.estimated_accuracy_
    assert 0 < low < value < high < 1
    assert low < np.mean(model.predict(features) == true) < high
    sure = model.label_distributions_.max(axis=1)
    assert abs(sure.mean() - np.mean(model.predict(features) == true)) < 0.15


def test_no_label_and_one_class():
    features, true, y = blobs()
    model = FewLabelClassifier().fit(features, np.full(600, -1))
    assert model.classes_.shape == (0,)
    first = model.suggest(4)
    assert sorted(true[first]) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no image has a label yet"):
        model.predict(features)
    answers = np.full(600, -1)
    answers[first] = true[first]
    model.relearn(answers)
    assert np.mean(model.predict(features) == true) > 0.95
    one = FewLabelClassifier().fit(features, np.where(y == 2, 2, -1))
    assert (one.predict(features) == 2).all()
    assert (one.predict_proba(features) == 1).all()


def test_relearning_is_fitting_and_the_same_each_time():
    features, _, y = blobs(spread=3.0)
    other = blobs(labels=20)[2]
    model = FewLabelClassifier(random_state=3).fit(features, other).relearn(y)
    again = clone(model).fit(features, y)
    np.testing.assert_array_equal(model.label_distributions_, again.label_distributions_)
    np.testing.assert_array_equal(model.suggest(20), again.suggest(20))
    assert not set(model.suggest(20)) & set(np.flatnonzero(y >= 0))
    assert len(model.suggest(5000)) == (y < 0).sum()
    assert len(FewLabelClassifier().fit(features, blobs(labels=40)[2]).suggest(7)) == 7


def test_guesses_come_before_they_are_judged():
    features, _, y = blobs(labels=5, spread=3.0)
    model, seen = FewLabelClassifier().fit(features, np.full(600, -1)), []

    def early():
        likely = model.label_distributions_
        seen.append((model.transduction_.copy(), likely.copy(), model.estimated_accuracy_, len(model.doubts_)))

    more = blobs(labels=8, spread=3.0)[2]
    for labels in (y, more):
        model.relearn(labels, early)
        np.testing.assert_array_equal(model.transduction_, seen[-1][0])
        np.testing.assert_allclose(seen[-1][1].sum(axis=1), 1)
        assert seen[-1][2:] == (None, 0)
        assert model.estimated_accuracy_ is not None
    assert seen[0][1].max() < 0.3  # nothing was known then
    assert np.abs(seen[1][1] - model.label_distributions_).max() < 0.3
    again = FewLabelClassifier().fit(features, more)
    np.testing.assert_array_equal(again.label_distributions_, model.label_distributions_)


def test_memmaps_and_pickles(tmp_path):
    features, _, y = blobs(spread=3.0)
    np.save(tmp_path / "features.npy", features)
    told = []
    model = FewLabelClassifier(progress=told.append).fit(np.load(tmp_path / "features.npy", mmap_mode="r"), y)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        copy.predict_proba(features), FewLabelClassifier().fit(features, y).predict_proba(features)
    )
    np.testing.assert_array_equal(copy.suggest(5), model.suggest(5))


@pytest.mark.parametrize("texts", [False, True])
def test_a_state_predicts_the_same_without_pickle(tmp_path, texts):
    features, _, y = blobs(labels=5, spread=3.0)
    labels = [f"é{label}" if label >= 0 else None for label in y] if texts else y
    model = FewLabelClassifier([0.1, 0.2, 0.3, 0.4]).fit(features, labels)
    arrays, settings = model.state()
    np.savez(tmp_path / "model.npz", **arrays)
    settings = json.loads(json.dumps(settings))
    with np.load(tmp_path / "model.npz", allow_pickle=False) as stored:
        restored = FewLabelClassifier.from_state(stored, settings)
    np.testing.assert_array_equal(restored.predict_proba(features), model.predict_proba(features))
    np.testing.assert_array_equal(restored.predict(features), model.predict(features))
    assert restored.estimated_accuracy_ == model.estimated_accuracy_
    assert restored.calibration_error_ == model.calibration_error_
    with pytest.raises(ValueError, match="has no images"):
        restored.suggest(3)
    assert restored.fit(features, y).suggest(3).shape == (3,)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"coef": np.zeros((2, 2))}, "coef must have shape"),
        ({"mean": np.full(20, np.nan)}, "mean must be finite"),
        ({"version": 3}, "version 1 or 2, got 3"),
        ({"axes": None}, r"lacks \['axes'\]"),
        ({"landmarks": None}, r"lacks \['landmarks'\]"),
        ({"landmarks": np.zeros((5, 20))}, r"landmarks must have shape \(600, 20\), got \(5, 20\)"),
    ],
)
def test_damaged_states_are_refused(change, match):
    features, _, y = blobs()
    arrays, settings = FewLabelClassifier().fit(features, y).state()
    for name, value in change.items():
        part = settings if name in settings else arrays
        part[name] = value
        if value is None:
            del part[name]
    with pytest.raises(ValueError, match=match):
        FewLabelClassifier.from_state(arrays, settings)


@pytest.mark.parametrize(
    ("prior", "y", "error", "match"),
    [
        ("equal", None, ValueError, "prior must be one of"),
        ([0.5, 0.5], None, ValueError, "prior must be 4 shares above 0"),
        ([0.5, 0.5, 0, 0], None, ValueError, "prior must be 4 shares above 0"),
        ({0: 1.0}, None, ValueError, r"lacks \[1, 2, 3\]"),
        (dict.fromkeys(range(6), 1 / 6), None, ValueError, r"has shares for \[4, 5\], of which no image has a label"),
        (3.5j, None, TypeError, "prior must be"),
        ("uniform", [0, 1], ValueError, "one label, or −1 or None, for each of 600 rows"),
        ("uniform", ["a", 1] * 300, TypeError, "all texts or all numbers"),
    ],
)
def test_bad_arguments(prior, y, error, match):
    features, _, given = blobs()
    y = given if y is None else np.array(y, object)
    with pytest.raises(error, match=match):
        FewLabelClassifier(prior).fit(features, y)


@pytest.mark.parametrize("features", [np.ones((40, 6)), np.random.default_rng(0).normal(size=(40, 6))])
def test_guesses_of_which_nothing_is_known_are_hardly_surer_than_chance(features):
    y = np.full(40, -1)
    y[:2] = 0, 1
    model = FewLabelClassifier().fit(features.astype(np.float32), y)
    assert 0.5 <= model.label_distributions_.max(axis=1).mean() < 0.51
    assert model.predict_proba(features.astype(np.float32)).max(axis=1).mean() < 0.51
    y[2:4] = 0, 1
    model.relearn(y)  # four labels that can be held out
    assert 0.5 <= model.label_distributions_.max(axis=1).mean() < 0.85


def test_labels_that_do_not_reach_all_images_are_told(monkeypatch):
    monkeypatch.setattr("hebbcore.classify.solver._MOST_STEPS", 1)
    features, _, given = blobs()
    with pytest.warns(ConvergenceWarning, match="has not converged in 1 steps"):
        FewLabelClassifier().fit(features, given)


def test_what_is_not_fitted_says_so():
    model = FewLabelClassifier()
    for call in (model.predict, model.predict_proba, model.relearn):
        with pytest.raises(NotFittedError):
            call(np.zeros((2, 20)))
    with pytest.raises(NotFittedError):
        model.suggest(2)


@pytest.mark.parametrize("labels", [0, 1, 40])
def test_a_fit_from_the_state_of_the_images_is_the_same(labels):
    random = np.random.default_rng(0)
    truth = np.arange(90) % 3
    features = (random.normal(size=(90, 12)) + 2 * np.eye(12)[truth]).astype(np.float32)
    y = np.where(np.arange(90) < labels, truth, -1)
    model = FewLabelClassifier().fit(features, y)
    arrays = {name: array.copy() for name, array in model.images_state().items()}
    again = FewLabelClassifier().fit_state(arrays, np.full(90, -1)).relearn(y)
    np.testing.assert_array_equal(again.label_distributions_, model.label_distributions_)
    np.testing.assert_array_equal(again.suggest(9), model.suggest(9))
    assert again.n_features_in_ == 12
    if labels > 1:
        np.testing.assert_array_equal(again.predict_proba(features), model.predict_proba(features))


def test_images_to_skip_are_not_suggested():
    random = np.random.default_rng(0)
    truth = np.arange(90) % 3
    features = (random.normal(size=(90, 12)) + 2 * np.eye(12)[truth]).astype(np.float32)
    skip = random.random(90) < 0.8
    for labels in (0, 60):  # by clusters; by doubt
        model = FewLabelClassifier().fit(features, np.where(np.arange(90) < labels, truth, -1))
        found = model.suggest(100, skip)
        assert sorted(found) == [i for i in range(labels, 90) if not skip[i]]
        assert set(model.suggest(3, skip)) <= set(found)
    assert len(model.suggest(5, np.ones(90, bool))) == 0
    with pytest.raises(ValueError, match=r"suggest: skip must be \(90,\) of bool, got \(90,\) of int64"):
        model.suggest(5, skip.astype(np.int64))
