"""Solutions for many penalties from few factorisations are those of one factorisation each."""

import numpy as np
import pytest
from ridge_helpers import ALPHAS, problem

from hebbcore.evaluation import RidgeReadout
from hebbcore.evaluation.ridge import linear_system, path
from hebbcore.evaluation.ridge.meter import Meter
from hebbcore.evaluation.ridge.path import Equations

PENALTIES = (1.0, 1e-2, 100.0, 10.0, 0.1, 1e4)


@pytest.fixture
def factorised(monkeypatch):
    """Count factorisations, and let small systems have spaces of 30 blocks."""
    counted, real = [], linear_system.factorised
    monkeypatch.setattr(path, "factorised", lambda *given: counted.append(given[1]) or real(*given))
    monkeypatch.setattr(path, "_blocks", lambda equations: 30)
    return counted


def system(generator, size=90, columns=3):
    rows = generator.normal(size=(size, size + 20)) * np.linspace(0.1, 3, size)[:, None]
    return np.tril(rows @ rows.T), generator.normal(size=(size, columns))


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_few_factorisations_give_all_solutions(subtract, on_disk, generator, factorised, tmp_path):
    lower, right = system(generator)
    matrix = np.memmap(tmp_path / "m", np.float64, "w+", shape=lower.shape) if on_disk else lower.copy()
    matrix[...] = lower
    scale = generator.uniform(0.5, 20, 90)
    minus = 0.1 * generator.normal(size=90) if subtract else None
    whole = lower + np.tril(lower, -1).T - (np.outer(minus, minus) if subtract else 0)
    meter = Meter(lambda line: None, "solving", 6 * 90**3 / 3)
    given = Equations(matrix, scale, right, minus, 20, 2**30)
    found = dict(pair for some in path.solutions(given, PENALTIES, meter) for pair in some)
    assert sorted(found) == list(range(6))
    assert 1 <= len(factorised) <= 3
    for i, penalty in enumerate(PENALTIES):
        a = whole + penalty * np.diag(scale)
        np.testing.assert_allclose(found[i], np.linalg.solve(a, right), rtol=0, atol=1e-6 * np.abs(found[i]).max())
        rest = np.linalg.norm((right - a @ found[i]) / scale[:, None] ** 0.5, axis=0)
        assert (rest <= 1.1e-9 * np.linalg.norm(right / scale[:, None] ** 0.5, axis=0)).all()
    np.testing.assert_array_equal(np.tril(matrix), lower)
    assert meter._done == pytest.approx(meter._total)


def test_right_sides_may_depend_on_each_other_and_be_zero(generator, factorised):
    lower, right = system(generator, columns=4)
    right -= right.mean(axis=1, keepdims=True)
    right[:, 3] = 0
    right[:, 1] = right[:, 0]
    for some in (right, right[:, 3:]):
        given = Equations(lower.copy(), np.ones(90), some, None, 20, 2**30)
        for i, x in (pair for group in path.solutions(given, PENALTIES) for pair in group):
            a = lower + np.tril(lower, -1).T + PENALTIES[i] * np.eye(90)
            np.testing.assert_allclose(x, np.linalg.solve(a, some), rtol=0, atol=1e-6 * max(1, np.abs(x).max()))
    assert len(factorised) < 2 * len(PENALTIES)


def test_penalties_below_rounding_have_no_solution(generator, factorised):
    lower, right = system(generator)
    vector = generator.normal(size=90)
    negative = lower + np.tril(lower, -1).T
    values, vectors = np.linalg.eigh(negative)
    negative -= (values[0] + 5) * np.outer(vectors[:, 0], vectors[:, 0])  # an eigenvalue of −5
    for some in (right, vector[:, None]):
        given = Equations(np.tril(negative), np.ones(90), some, None, 20, 2**30)
        found = [i for group in path.solutions(given, PENALTIES) for i, _ in group]
        assert sorted(found) == [2, 3, 5]
        assert {penalty[0] for penalty in factorised} >= {0.1, 1.0}
        assert min(penalty[0] for penalty in factorised) == 0.1  # smaller ones than that are not tried
        given.matrix[...] = -np.eye(90) * 1e6
        assert not list(path.solutions(given, PENALTIES))


def test_what_a_space_does_not_reach_is_factorised(generator, factorised, monkeypatch):
    monkeypatch.setattr(path, "_blocks", lambda equations: 8)
    lower, right = system(generator)
    given = Equations(lower.copy(), np.ones(90), right, None, 20, 2**30)
    found = [i for group in path.solutions(given, (1e-3, 1.0, 1e3, 1e9)) for i, _ in group]
    assert sorted(found) == [0, 1, 2, 3]
    assert len(factorised) > 1


def test_a_space_that_will_not_reach_a_penalty_is_given_up(generator, factorised, monkeypatch):
    added, real = [], path._Space._add
    monkeypatch.setattr(path._Space, "_add", lambda self, block: added.append(block) or real(self, block))
    values = np.logspace(-3, 8, 600)
    given = Equations(np.diag(values), np.ones(600), generator.normal(size=(600, 2)), None, 1024, 2**30)
    for penalties, least, most in (((1.0, 1e7), 8, 16), ((1.0, 2.0), 4, 16)):
        added.clear()
        factorised.clear()
        for i, x in (pair for group in path.solutions(given, penalties) for pair in group):
            exact = given.right / (values + penalties[i])[:, None]
            np.testing.assert_allclose(x, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
        assert least <= len(added) <= most
        assert len(factorised) == (2 if penalties[1] == 1e7 else 1)


@pytest.mark.parametrize(
    ("size", "columns", "memory", "blocks"),
    [
        (25_632, 10, 2**32, 96),
        (4000, 10, 2**32, 15),
        (500, 2, 2**32, 1),
        (5000, 1000, 2**32, 0),
        (50_000, 10, 2**30, 16),
    ],
)
def test_spaces_are_made_where_they_cost_less_than_factorisations(size, columns, memory, blocks):
    right = np.broadcast_to(0.0, (size, columns))
    assert path._blocks(Equations(None, None, right, None, 1, memory)) == blocks


@pytest.mark.parametrize(("rows", "features"), [(200, 40), (60, 200)])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_penalty_is_chosen_as_by_factorisations(rows, features, classes, generator, factorised, monkeypatch):
    x, labels = problem(generator, rows, features, classes, np.float64, noise=0.6)
    lines = []
    monkeypatch.setattr("hebbcore.evaluation.ridge.meter._SECONDS", 0.0)
    model = RidgeReadout((*ALPHAS, 1e4), validation_fraction=0.3, progress=lines.append).fit(x, labels)
    assert len(factorised) < 5
    assert [line for line in lines if line.startswith("solving")][-1].startswith(f"solving {min(rows, features)} equ")
    monkeypatch.setattr(path, "_blocks", lambda equations: 0)
    factorised.clear()
    expected = RidgeReadout((*ALPHAS, 1e4), validation_fraction=0.3).fit(x, labels)
    assert len(factorised) == 5
    np.testing.assert_array_equal(model.validation_scores_, expected.validation_scores_)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.predict_proba(x), expected.predict_proba(x), atol=1e-6)
