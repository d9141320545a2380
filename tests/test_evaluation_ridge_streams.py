"""RidgeReadout fitted on batches, from a stream or one at a time."""

import pickle

import numpy as np
import pytest
from ridge_helpers import ALPHAS, cut, problem, same_scores, slow_choice
from sklearn.linear_model import RidgeClassifier

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import holdout, sums

pytest_plugins = "ridge_helpers"


# Streams


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_how_a_stream_is_cut_does_not_change_a_bit(alphas, generator, monkeypatch):
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 16)
    features, labels = problem(generator, 100)
    models = [
        RidgeReadout(alphas, standardize=True).fit_stream(cut(features, labels, *ends))
        for ends in ([], [1, 2, 50], range(1, 100), [99])
    ]
    for model in models[1:]:
        np.testing.assert_array_equal(model.coef_, models[0].coef_)
        np.testing.assert_array_equal(model.intercept_, models[0].intercept_)
        assert model.alpha_ == models[0].alpha_


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_batches_and_their_labels_may_lie_in_the_same_memory(alphas, generator):
    """Labels of rows that are kept for the choice of a penalty became those of the last batch."""
    features, labels = problem(generator, 100)

    def batches():
        rows, classes = np.empty((20, features.shape[1])), np.empty(20, labels.dtype)
        for start in range(0, 100, 20):
            rows[...], classes[...] = features[start : start + 20], labels[start : start + 20]
            yield rows, classes

    expected = RidgeReadout(alphas).fit_stream(cut(features.astype(np.float64), labels, 20, 40, 60, 80))
    np.testing.assert_array_equal(RidgeReadout(alphas).fit_stream(batches()).coef_, expected.coef_)


@pytest.mark.usefixtures("tiny_pieces")
@pytest.mark.parametrize("names", [["b", "a", "d", "c"], [7, 1, 3, 5], ["yes", "no"]])
def test_a_stream_gives_what_its_rows_give(names, generator):
    features, codes = problem(generator, 90, classes=len(names))
    labels = np.array(names)[codes]
    expected = RidgeClassifier(3.0).fit(features.astype(np.float64), labels)
    batches = cut(features, labels, 1, 30, 31)
    for classes in (None, names):
        model = RidgeReadout(3.0).fit_stream(batches, classes)
        np.testing.assert_array_equal(model.classes_, np.sort(names))
        assert model.n_features_in_ == 12
        same_scores(model, expected, features, 1e-4)


def held_out_of(holdout_, batches):
    """Pass batches whose features are their row numbers; return the numbers that were held out at the end, and not."""
    trained = [holdout_.split(features, labels, np.ones(len(labels)))[0] for features, labels in batches]
    held = [rows for rows, _, _ in holdout_.rows()]
    return tuple(np.concatenate([np.zeros((0, 1)), *parts])[:, 0].astype(int) for parts in (held, trained))


@pytest.mark.parametrize("limit", [10**6, 40])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_a_stream_holds_out_a_share_of_each_class_and_never_its_first_row(limit, fraction, generator, monkeypatch):
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * 8)
    labels = generator.integers(0, 3, 1000)
    rows = np.arange(1000.0)[:, None]
    stream = holdout.StreamHoldout(rows, fraction, np.random.RandomState(0))
    held, trained = held_out_of(stream, cut(rows, labels, *range(10, 1000, 10)))
    np.testing.assert_array_equal(np.sort(np.concatenate([held, trained])), np.arange(1000))
    firsts = [np.flatnonzero(labels == label)[0] for label in range(3)]
    assert not np.isin(firsts, held).any()
    shares = np.bincount(labels[held], minlength=3) / np.bincount(labels)
    if limit > 1000:
        np.testing.assert_allclose(shares, fraction, atol=0.005)
    else:
        assert 20 <= stream.count == len(held) <= 40
        np.testing.assert_allclose(shares, shares.mean(), atol=0.005)
    other = holdout.StreamHoldout(rows, fraction, np.random.RandomState(1))
    assert not np.array_equal(np.sort(held_out_of(other, cut(rows, labels))[0]), np.sort(held))


@pytest.mark.parametrize("limit", [10**6, 8])
def test_a_stream_chooses_by_its_held_out_rows(limit, generator, monkeypatch):
    features, labels = problem(generator, 150, classes=3, dtype=np.float64)
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * features[0].nbytes)
    names = np.array(["c", "a", "b"])[labels]
    batches = cut(features, names, 40, 80)
    model = RidgeReadout(ALPHAS, validation_fraction=0.1).fit_stream(batches)
    numbered = cut(np.arange(150.0)[:, None], labels, 40, 80)
    monkeypatch.setattr(holdout, "HELD_BYTES", limit * 8)
    first_seen = {label: code for code, label in enumerate(dict.fromkeys(labels.tolist()))}
    numbered = [(rows, np.array([first_seen[label] for label in part.tolist()])) for rows, part in numbered]
    held = np.zeros(150, bool)
    stream = holdout.StreamHoldout(numbered[0][0], 0.1, np.random.RandomState(0))
    held[held_out_of(stream, numbered)[0]] = True
    np.testing.assert_allclose(model.validation_scores_, slow_choice(features, names, held, ALPHAS))
    np.testing.assert_allclose(model.coef_, RidgeClassifier(model.alpha_).fit(features, names).coef_, atol=1e-9)


def test_a_stream_is_read_once(generator):
    features, labels = problem(generator)
    batches = cut(features, labels, 60)
    expected = RidgeReadout().fit_stream(batches)
    np.testing.assert_array_equal(RidgeReadout().fit_stream(iter(batches)).coef_, expected.coef_)


# partial_fit


@pytest.mark.parametrize("alphas", [1.0, ALPHAS])
def test_partial_fits_add_up(alphas, generator):
    features, labels = problem(generator, 150)
    batches = cut(features, labels, 50, 51, 110)
    expected = RidgeReadout(alphas).fit_stream(batches)
    silent, used = RidgeReadout(alphas), RidgeReadout(alphas)
    for rows, names in batches:
        silent.partial_fit(rows, names, classes=None)
        used.partial_fit(rows, names).predict(rows)  # what an intermediate solution adds must not stay
        used = pickle.loads(pickle.dumps(used))
    np.testing.assert_array_equal(silent.coef_, expected.coef_)
    np.testing.assert_allclose(used.coef_, expected.coef_, atol=1e-4)
    assert silent.alpha_ == used.alpha_ == expected.alpha_


def test_partial_fit_starts_anew_after_fit(generator):
    features, labels = problem(generator)
    model = RidgeReadout(1.0).fit(features + 1, labels)
    model.partial_fit(features, labels)
    np.testing.assert_array_equal(model.coef_, RidgeReadout(1.0).fit_stream([(features, labels)]).coef_)
    model.fit(features, labels)
    np.testing.assert_allclose(model.coef_, RidgeReadout(1.0).partial_fit(features, labels).coef_)


@pytest.mark.parametrize(
    "later",
    [
        {"fit_intercept": False},
        {"standardize": True},
        {"validation_fraction": 0.3},
        {"random_state": 5},
        {"class_weight": {0: 3.0, 1: 1.0}},
        {"memory": "1 GiB"},
        {"folder": "."},
        {"progress": print},
    ],
)
def test_parameters_that_later_parts_would_ignore_are_refused(later, generator):
    features, labels = problem(generator)
    model = RidgeReadout(class_weight={0: 2.0, 1: 1.0}).partial_fit(features, labels)
    before, (name,) = model.get_params(), later
    model.set_params(**later)
    message = f"RidgeReadout.partial_fit: {name} was set from .* after the sum of rows was made"
    with pytest.raises(ValueError, match=message):
        model.partial_fit(features, labels)
    model.set_params(**{name: before[name]}).partial_fit(features, labels)
    model.set_params(**later).fit(features, labels).partial_fit(features, labels)  # which begin anew


def test_a_weight_that_changes_in_the_given_dict_is_refused(generator):
    features, labels = problem(generator)
    weights = {0: 2.0, 1: 1.0}
    model = RidgeReadout(class_weight=weights).partial_fit(features, labels)
    weights[0] = 3.0
    with pytest.raises(ValueError, match="class_weight was set"):
        model.partial_fit(features, labels)


@pytest.mark.parametrize("fraction", [None, 0.3])
def test_alphas_set_between_parts_have_their_effect(fraction, generator):
    features, labels = problem(generator, 100)
    model, options = RidgeReadout(validation_fraction=fraction), {"validation_fraction": fraction}
    model.partial_fit(features[:60], labels[:60]).set_params(alphas=7.0).partial_fit(features[60:], labels[60:])
    expected = RidgeReadout(7.0).fit_stream([(features, labels)])
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-4)
    assert model.alpha_ == 7.0
    assert model.validation_scores_ is None
    model.set_params(alphas=(2.0, 3.0)).partial_fit(features, labels)
    expected = RidgeReadout((2.0, 3.0), **options).fit_stream([(features, labels)] * 2)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-4)
    single = RidgeReadout(1.0).partial_fit(features, labels).set_params(alphas=(1.0, 2.0))
    with pytest.raises(ValueError, match="alphas was set to several numbers after the first batch, when there was one"):
        single.predict(features)


def test_a_weight_of_a_class_that_is_not_listed_is_refused(generator):
    features, labels = problem(generator)
    with pytest.raises(ValueError, match="class_weight has 7, which is no class"):
        RidgeReadout(class_weight={7: 2.0}).partial_fit(features, labels, classes=np.unique(labels))


def test_texts_after_numbers_are_refused_not_classes_of_their_own(generator):
    features, labels = problem(generator)
    model = RidgeReadout(1.0).partial_fit(features, labels)
    message = "labels are texts, but those of the batches before numbers"
    with pytest.raises(TypeError, match=f"RidgeReadout.partial_fit: {message}"):
        model.partial_fit(features, labels.astype(str))
    with pytest.raises(TypeError, match=f"RidgeReadout.fit_stream: {message}"):
        RidgeReadout(1.0).fit_stream([(features, labels), (features, labels.astype(str))])


def test_classes_may_turn_up_late_or_never(generator):
    features, labels = problem(generator)
    order = np.argsort(labels, kind="stable")
    model = RidgeReadout(1.0)
    for rows, names in cut(features[order], labels[order], 30, 60, 90):
        model.partial_fit(rows, names)
    same_scores(model, RidgeClassifier(1.0).fit(features.astype(np.float64), labels), features, 1e-4)
    absent = RidgeReadout(1.0).partial_fit(features, labels, classes=[9, 3, 2, 1, 0])
    np.testing.assert_array_equal(absent.classes_, [0, 1, 2, 3, 9])
    np.testing.assert_allclose(absent.coef_[:4], model.coef_, atol=1e-5)
    np.testing.assert_allclose(absent.coef_[4], 0, atol=1e-9)
    assert absent.intercept_[4] == pytest.approx(-1)
    assert set(absent.predict(features)) <= {0, 1, 2, 3}
