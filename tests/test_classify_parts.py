"""The parts of hebbcore.classify against scikit-learn, SciPy, and slow programs of their formulas."""

import numpy as np
import pytest
from classify_helpers import shared_weights, unit_rows
from scipy import sparse
from scipy.optimize import brentq
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from hebbcore.classify import balance, graph, likeness, neighbours, space
from hebbcore.classify.balance import balancing_bias, smoothed_shares
from hebbcore.classify.graph import joined, neighbour_graph
from hebbcore.classify.held_out import (
    HeldOut,
    accuracy_interval,
    doubted,
    early_sharpness,
    trusted,
)
from hebbcore.classify.learn import regime
from hebbcore.classify.linear import AllRows, labelled_predictor, scores_of
from hebbcore.classify.suggest import cover, doubt_and_cover
from hebbcore.engine.spread import spread_rows
from hebbcore.evaluation.ridge.calibration import calibration_error
from hebbcore.evaluation.ridge.meter import SILENT


@pytest.mark.parametrize("shape", [(200, 12), (40, 90)])  # features × features, and rows × rows
def test_components_are_those_of_scikit_learn(generator, monkeypatch, shape):
    monkeypatch.setattr(space, "_NUMBERS", 500)
    monkeypatch.setattr(space, "FEW", 0)
    features = (generator.standard_normal(shape) * np.arange(1, shape[1] + 1) + 1000).astype(np.float32)
    features[:, 3] = 7  # constant
    learned = space.learned_space(features, SILENT, most=8)
    model = PCA(8).fit(StandardScaler().fit_transform(features.astype(np.float64)))
    n = len(features)
    np.testing.assert_allclose(learned.eigenvalues, model.explained_variance_ * (n - 1) / n, rtol=1e-3)
    expected = model.transform(StandardScaler().fit_transform(features.astype(np.float64)))
    np.testing.assert_allclose(np.abs(learned.components(features)), np.abs(expected), atol=0.02)


def test_few_features_are_replaced_by_their_likeness(generator, monkeypatch):
    monkeypatch.setattr(space, "_NUMBERS", 5000)
    monkeypatch.setattr(likeness, "_LANDMARKS", 30)
    features = (generator.standard_normal((80, 3)) * [1, 9, 4] + 50).astype(np.float32)
    features[:, 1] = 7  # constant
    learned = space.learned_space(features, SILENT)
    varying = StandardScaler().fit_transform(features[:, [0, 2]].astype(np.float64))
    landmarks = varying[spread_rows(80, 30)]
    like = np.exp(-((varying[:, None] - landmarks[None]) ** 2).mean(axis=2) / 2)
    model = PCA(8).fit(StandardScaler().fit_transform(like))
    np.testing.assert_allclose(learned.eigenvalues[:8], model.explained_variance_ * 79 / 80, rtol=1e-3)
    expected = model.transform(StandardScaler().fit_transform(like))
    np.testing.assert_allclose(np.abs(learned.components(features)[:, :4]), np.abs(expected[:, :4]), atol=0.01)
    assert learned.features == 3
    again = space.Space.of(learned.arrays)
    np.testing.assert_array_equal(again.ridge_rows(features), learned.ridge_rows(features))


def test_components_of_many_wide_features_are_found_by_iteration(generator, monkeypatch):
    monkeypatch.setattr(space, "_NUMBERS", 5000)
    hidden = generator.standard_normal((400, 60)) * 0.8 ** np.arange(60)
    features = (hidden @ generator.standard_normal((60, 300)) + 5).astype(np.float32)
    exact = space.learned_space(features, SILENT, most=8)
    monkeypatch.setattr(space, "_MOST_EXACT", 100)
    monkeypatch.setattr(space, "_SPARE", 16)
    found = space.learned_space(features, SILENT, most=8)
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(np.abs((found.axes * exact.axes).sum(axis=1)), 1, atol=0.01)
    again = space.learned_space(features, SILENT, most=8)
    np.testing.assert_array_equal(again.axes, found.axes)


def test_rows_are_scaled_by_powers_of_the_eigenvalues(generator):
    components, values = generator.standard_normal((5, 3)), np.array([4.0, 2.0, 0.5])
    components[2] = 0
    rows = space.scaled(components, values, -3 / 8)
    expected = components / values ** (3 / 8)
    norms = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, expected / np.where(norms > 0, norms, 1))


@pytest.mark.parametrize("references", [7, 64, 1000])
def test_neighbours_are_those_of_scikit_learn_whatever_the_blocks(generator, monkeypatch, references):
    monkeypatch.setattr(neighbours, "_REFERENCES", references)
    monkeypatch.setattr(neighbours, "_PRODUCTS", 20 * references)
    rows = unit_rows(generator, 130, 6)
    indices, squares = neighbours.nearest(rows, 10)
    expected, where = NearestNeighbors(n_neighbors=11, algorithm="brute").fit(rows.astype(np.float64)).kneighbors()
    np.testing.assert_array_equal(indices, where[:, :10])
    np.testing.assert_allclose(squares, expected[:, :10] ** 2, rtol=1e-4)


def test_duplicates_are_neighbours_at_distance_zero(generator):
    rows = np.repeat(unit_rows(generator, 4, 5), 3, axis=0)
    indices, squares = neighbours.nearest(rows, 2)
    assert (squares == 0).all()
    assert (indices // 3 == np.arange(12)[:, None] // 3).all()
    assert (indices != np.arange(12)[:, None]).all()


@pytest.mark.parametrize(("n", "near"), [(150, 30), (40, 20), (12, 11), (3, 2)])
def test_weights_of_the_graph(generator, monkeypatch, n, near):
    monkeypatch.setattr(graph, "_ROWS", 64)
    indices = neighbours.nearest(unit_rows(generator, n, 3), near)[0]
    np.testing.assert_allclose(neighbour_graph(indices).toarray(), shared_weights(indices), rtol=1e-6)


def test_parts_are_linked_where_they_are_nearest():
    rows = np.array([[0.0], [1.0], [5.0], [6.0], [20.0], [21.0], [22.0]])
    graph = np.zeros((7, 7))
    for i, j in ((0, 1), (2, 3), (4, 5), (5, 6)):
        graph[i, j] = graph[j, i] = 1
    linked = joined(sparse.csr_array(graph), rows)
    assert connected_components(linked)[0] == 1
    new = {tuple(pair) for pair in np.argwhere(np.triu(linked.toarray()) - np.triu(graph) > 0)}
    assert new == {(1, 2), (3, 4)}
    assert linked[1, 2] == linked[2, 1] == np.exp(-4)


def nearest_outside(rows, parts):
    """Return the square of the distance from each part to the nearest row outside it, by all pairs."""
    exact = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=2)
    return [exact[np.ix_(parts == part, parts != part)].min() for part in range(parts.max() + 1)]


@pytest.mark.parametrize("spread", [0, 1e-3, 0.3])
def test_each_part_is_linked_to_what_is_nearest(generator, monkeypatch, spread):
    monkeypatch.setattr(graph, "_REFERENCES", 37)
    rows = unit_rows(generator, 30, 6).repeat(8, axis=0)
    rows[:160] += spread * generator.standard_normal((160, 6)).astype(np.float32)
    rows = np.concatenate([rows, unit_rows(generator, 60, 6)])
    groups = [*np.split(np.arange(240), 30), np.arange(240, 300)]
    parts = np.repeat(np.arange(31), [len(group) for group in groups])
    squares = np.einsum("ij,ij->i", rows, rows)
    found = graph._links(rows, squares, groups)
    assert all(parts[row] == part != parts[other] for part, (row, other) in enumerate(found))
    lengths = [((rows[row] - rows[other]).astype(np.float64) ** 2).sum() for row, other in found]
    np.testing.assert_allclose(lengths, nearest_outside(rows, parts), atol=1e-5)


def test_duplicates_are_not_compared_with_all(generator, monkeypatch):
    compared, before = [], graph._link

    def link(rows, squares, group, others):
        compared.append(len(others))
        return before(rows, squares, group, others)

    monkeypatch.setattr(graph, "_link", link)
    rows = np.concatenate([unit_rows(generator, 600, 20), unit_rows(generator, 20, 20).repeat(30, axis=0)])
    blocks = [np.ones((600, 600)), *[np.ones((30, 30))] * 20]
    parts = sparse.block_diag([sparse.coo_array(block) for block in blocks], "csr")
    assert connected_components(joined(parts, rows))[0] == 1
    assert len(compared) >= 20
    assert np.mean(compared) < 60  # of 1,170 others


@pytest.mark.parametrize("columns", [7, 1000])
def test_guesses_are_counted_as_argmax_does(generator, monkeypatch, columns):
    monkeypatch.setattr(balance, "_COLUMNS", columns)
    monkeypatch.setattr(balance, "_NUMBERS", columns)
    scores = generator.integers(0, 4, (100, 5)).astype(np.float32)  # many are equal
    bias = np.array([0, 1, 0, -1, 0], np.float32)
    wanted = np.bincount((scores + bias).argmax(axis=1), minlength=5)
    np.testing.assert_array_equal(balance._counts(np.ascontiguousarray(scores.T), bias), wanted)
    shares = np.full(5, 0.2)
    expected = (scores + balancing_bias(scores, shares)).argmax(axis=1)
    np.testing.assert_array_equal(balance.balanced_guesses(scores, shares), expected)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("skew", [1, 20])
def test_the_balance_brings_the_shares_to_those_wanted(generator, classes, skew):
    scores = generator.standard_normal((5000, classes)) * 0.01 + generator.standard_normal(classes) * 0.005
    shares = np.linspace(1, skew, classes)
    shares /= shares.sum()
    found = np.bincount((scores + balancing_bias(scores, shares)).argmax(axis=1), minlength=classes) / 5000
    assert np.abs(found - shares).sum() < 0.1


def test_scores_that_are_all_alike_have_no_balance():
    np.testing.assert_array_equal(balancing_bias(np.zeros((9, 3)), np.full(3, 1 / 3)), 0)


def test_shares_are_smoothed_less_the_surer_the_labels_are(generator):
    even = generator.multinomial(40, np.full(10, 0.1))
    assert np.abs(smoothed_shares(even, even / 40) - 0.1).max() < np.abs(even / 40 - 0.1).max() / 2
    skewed = np.array([2000, 100])
    np.testing.assert_allclose(smoothed_shares(skewed, skewed / 2100), skewed / 2100, atol=1e-3)
    np.testing.assert_allclose(smoothed_shares(np.array([1, 1, 1]), np.full(3, 1 / 3)), 1 / 3)
    assert smoothed_shares(np.array([5]), np.ones(1)) == 1


def test_the_ridge_of_all_rows_is_scikit_learns(generator, tune):
    tune(piece_bytes=900)
    rows, codes = unit_rows(generator, 90, 7), generator.integers(0, 3, 90)
    coef, intercept = AllRows(rows).predictor(codes, 4)  # a class without rows too
    centred = rows - rows.mean(axis=0)
    model = Ridge(0.03 * (centred**2).sum() / 7).fit(rows.astype(np.float64), np.eye(4)[codes])
    np.testing.assert_allclose(coef, model.coef_.T, atol=1e-5)
    np.testing.assert_allclose(intercept, model.intercept_, atol=1e-5)
    scores = scores_of(rows, (coef, intercept))
    np.testing.assert_allclose(scores, rows @ coef + intercept)
    mean, spread = AllRows(rows).mean_and_spread((coef, intercept))
    np.testing.assert_allclose(mean, scores.mean(axis=0), atol=1e-6)
    assert spread == pytest.approx(((scores - mean) ** 2).sum(axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("n", [20, 60])  # less rows than columns, and more
def test_the_ridge_of_the_labelled_has_the_least_leave_one_out_error(generator, n):
    rows, codes = unit_rows(generator, n, 30), np.arange(n) % 3
    rows[:, 5] = 0
    coef, intercept = labelled_predictor(rows, codes, 3)
    wide = rows.astype(np.float64)
    targets = np.eye(3)[codes]
    scale = wide.var(axis=0).sum() * n / 30
    errors = {}
    for penalty in scale * np.logspace(-4, 2, 13):
        left = [np.arange(n) != i for i in range(n)]
        fits = [Ridge(penalty).fit(wide[kept], targets[kept]) for kept in left]
        errors[penalty] = sum(((fit.predict(wide[i : i + 1]) - targets[i]) ** 2).sum() for i, fit in enumerate(fits))
    model = Ridge(min(errors, key=errors.get)).fit(wide, targets)
    np.testing.assert_allclose(coef, model.coef_.T, atol=1e-6)
    np.testing.assert_allclose(intercept, model.intercept_, atol=1e-6)


def test_no_penalty_below_the_least(generator):
    rows = generator.standard_normal((40, 5))
    codes = (rows[:, 0] > 0).astype(int)
    loose, tight = labelled_predictor(rows, codes, 2), labelled_predictor(rows, codes, 2, least=10)
    centred = rows - rows.mean(axis=0)
    model = Ridge(10 * (centred**2).sum() / 5).fit(rows, np.eye(2)[codes])
    np.testing.assert_allclose(tight[0], model.coef_.T)
    assert np.abs(loose[0]).sum() > 1.5 * np.abs(tight[0]).sum()


def test_the_regime_follows_the_labels_of_a_class():
    assert [regime(np.full(10, count)) for count in (1, 10, 16, 17, 25, 250, 350, 500)] == [
        *["refit"] * 3, *["stack"] * 4, "ridge",
    ]  # fmt: skip
    assert regime(np.array([], np.int64)) == regime(np.array([1])) == "refit"


def test_labels_of_skewed_classes_are_stacked_from_the_first(generator):
    skewed = np.geomspace(20, 1, 10) / np.geomspace(20, 1, 10).sum()
    assert all(regime(generator.multinomial(40, skewed)) == "stack" for _ in range(5))
    assert all(regime(generator.multinomial(40, np.full(10, 0.1))) == "refit" for _ in range(5))


def test_the_interval_is_wilsons():
    codes = np.arange(50) % 2
    scores = np.eye(2)[np.where(np.arange(50) < 20, codes, 1 - codes)]
    value, low, high = accuracy_interval(HeldOut(np.arange(50), codes, scores), np.full(2, 0.5))
    assert value == pytest.approx(0.4)
    for bound in (low, high):  # where the normal test just rejects
        assert abs(0.4 - bound) == pytest.approx(1.959964 * (bound * (1 - bound) / (50 / 1.5)) ** 0.5)
    assert accuracy_interval(HeldOut(np.arange(50), codes, np.eye(2)[codes]), np.full(2, 0.5))[2] == pytest.approx(1)


def test_classes_weigh_as_much_as_their_shares():
    codes = np.repeat([0, 1], [30, 10])
    held = HeldOut(np.arange(40), codes, np.tile([1.0, 0.0], (40, 1)))  # right in the first class alone
    value, low, high = accuracy_interval(held, np.array([0.2, 0.8]))
    assert value == pytest.approx(0.2)
    assert low < 0.2 < high
    assert high - low > np.subtract(*accuracy_interval(held, np.array([0.75, 0.25]))[:0:-1])


def test_the_interval_leaves_room_for_classes_of_which_no_label_is_held_out():
    held = HeldOut(np.arange(30), np.repeat([0, 2], 15), np.eye(4)[np.repeat([0, 2], 15)])  # all right
    _, low, high = accuracy_interval(HeldOut(held.positions, held.codes // 2, held.scores[:, ::2]), np.full(2, 0.5))
    value, least, most = accuracy_interval(held, np.array([0.1, 0.6, 0.1, 0.2]))
    assert (value, least, most) == (1, pytest.approx(0.2 * low), pytest.approx(0.2 * high + 0.8))


@pytest.mark.parametrize(
    ("right", "count", "sure"), [(0, 0, 0.25 + 0.005 * 0.75), (6, 8, 0.65), (0, 9, 0.25375), (9, 9, 9.5 / 11)]
)
def test_few_labels_make_guesses_as_sure_as_they_were_guessed_right(generator, right, count, sure):
    scores = generator.standard_normal((300, 4))
    held = HeldOut(np.arange(count), np.zeros(count, int), np.eye(4)[np.repeat([0, 1], [right, count - right])])
    powers = np.exp(early_sharpness(scores, held if count else None) * scores)
    assert (powers.max(axis=1) / powers.sum(axis=1)).mean() == pytest.approx(sure, abs=1e-6)


def noisy(generator, wrong):
    """Return held-out scores of 400 labels, of which a part is wrong, and which those are."""
    true = generator.integers(0, 4, 400)
    scores = 2 * np.eye(4)[true] + 0.3 * generator.standard_normal((400, 4))
    flipped = np.arange(400) < 400 * wrong
    return HeldOut(np.arange(400) * 2, np.where(flipped, (true + 1) % 4, true), scores), 2 * np.flatnonzero(flipped)


def test_doubted_are_labels_that_others_contradict(generator):
    held, wrong = noisy(generator, 0.2)
    found = doubted(held)
    assert len(set(found) & set(wrong)) > 0.9 * len(wrong)
    assert len(set(found) - set(wrong)) < 0.05 * len(wrong)
    assert not len(doubted(noisy(generator, 0)[0]))


def test_doubted_labels_do_not_judge_guesses_where_there_are_many(generator):
    held, _ = noisy(generator, 0.2)
    doubts, shares = doubted(held), np.full(4, 0.25)
    found = trusted(held, doubts)
    assert not set(found.positions) & set(doubts)
    assert accuracy_interval(held, shares)[0] < 0.85 < 0.95 < accuracy_interval(found, shares)[0]
    few = HeldOut(*(part[:64] for part in held))  # 16 a class
    assert trusted(few, few.positions[:5]) is few
    assert trusted(held, held.positions[9:]) is held  # too few would be left


def test_scores_that_know_little_doubt_few(generator):
    codes = generator.integers(0, 4, 400)
    scores = 0.5 * np.eye(4)[codes] + generator.standard_normal((400, 4))
    contradicted = np.count_nonzero(scores.argmax(axis=1) != codes)
    assert len(doubted(HeldOut(np.arange(400), codes, scores))) < contradicted / 4


@pytest.mark.parametrize("size", [30, 50])
def test_few_rows_leave_the_ridge_a_fifth_of_their_number_of_degrees_of_freedom(generator, size):
    rows, codes = unit_rows(generator, 40, size), generator.integers(0, 3, 40)
    wide = rows.astype(np.float64)
    squares = np.linalg.svd(wide - wide.mean(axis=0), compute_uv=False) ** 2
    penalty = brentq(lambda penalty: (squares / (squares + penalty)).sum() - 8, 1e-6, 1e6)
    coef, intercept = AllRows(rows).predictor(codes, 3)
    model = Ridge(penalty).fit(wide, np.eye(3)[codes])
    np.testing.assert_allclose(coef, model.coef_.T, atol=1e-5)
    np.testing.assert_allclose(intercept, model.intercept_, atol=1e-5)
    for alike in (np.ones((40, 30), np.float32), np.zeros((1, 5), np.float32)):  # nothing to learn from
        assert not AllRows(alike).predictor(np.zeros(len(alike), int), 1)[0].any()


def test_unseen_scores_are_those_of_a_ridge_without_the_row(generator):
    rows, codes = unit_rows(generator, 40, 7), generator.integers(0, 3, 40)
    model = AllRows(rows)
    found = model.unseen_scores(model.predictor(codes, 3), np.array([4, 9]), codes[[4, 9]])
    wide = rows.astype(np.float64)
    penalty = 0.03 * ((wide - wide.mean(axis=0)) ** 2).sum() / 7
    for row, scores in zip([4, 9], found, strict=True):
        kept = np.arange(40) != row
        expected = Ridge(penalty).fit(wide[kept], np.eye(3)[codes[kept]]).predict(wide[row : row + 1])[0]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_cover_takes_the_middle_of_clusters_without_labels(generator):
    centres = 10 * np.eye(6)
    rows = np.repeat(centres, 20, axis=0) + 0.1 * generator.standard_normal((120, 6))
    labelled = np.zeros(120, bool)
    labelled[[5, 45]] = True
    found = cover(rows, labelled, 4, 0)
    assert sorted(found // 20) == [1, 3, 4, 5]


def test_doubt_and_cover_takes_doubtful_images_that_differ(generator):
    rows = generator.standard_normal((400, 3))
    likely = np.tile([0.98, 0.02], (400, 1))
    likely[:150] = [0.52, 0.48]
    rows[:75] += 20
    rows[75:150] -= 20
    labelled = np.zeros(400, bool)
    labelled[:10] = True
    found = doubt_and_cover(rows, likely, labelled, 10, 0)
    assert len(set(found)) == 10
    assert ((found >= 10) & (found < 150)).all()
    assert (found < 75).any()
    assert (found >= 75).any()


def test_more_are_asked_for_than_clusters_are_there():
    rows, labelled = np.zeros((8, 2)), np.arange(8) < 2
    assert sorted(cover(rows, labelled, 6, 0)) == [2, 3, 4, 5, 6, 7]
    assert sorted(doubt_and_cover(rows, np.full((8, 2), 0.5), labelled, 6, 0)) == [2, 3, 4, 5, 6, 7]


def test_the_calibration_error_is_that_of_bins_counted_slowly(generator):
    sure = generator.permutation(np.linspace(0.2, 0.9, 300))
    right = generator.random(300) < sure**2
    order, slow = sorted(range(300), key=lambda k: sure[k]), 0.0
    for first in range(0, 300, 20):
        part = order[first : first + 20]
        slow += abs(sum(sure[k] for k in part) - sum(right[k] for k in part)) / 300
    error, chance = calibration_error(sure, right)
    assert error == pytest.approx(slow)
    assert 0.04 < chance < 0.12 < error  # sqrt(p (1 − p) / 20) · 0.8 is about 0.08
    assert calibration_error(np.ones(12), np.ones(12, bool)) == (0, 0)
    assert calibration_error(np.full(4, 0.75), np.array([True, True, True, False]))[0] == 0


def test_a_calibrated_classifier_has_little_more_than_chance_makes(generator):
    sure = generator.uniform(0.3, 1, 5000)
    error, chance = calibration_error(sure, generator.random(5000) < sure)
    assert error < 2 * chance < 0.05
