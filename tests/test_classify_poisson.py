"""Labels that spread over the graph: the equations, their solver, and the rounds in which links weigh less."""

import numpy as np
import pytest
import scipy.linalg
from classify_helpers import unit_rows
from scipy import sparse

from hebbcore.classify import learn, neighbours, poisson, solver
from hebbcore.classify.graph import joined, neighbour_graph
from hebbcore.classify.poisson import Poisson


@pytest.mark.parametrize("classes", [2, 5])
def test_potentials_solve_poissons_equation(generator, classes):
    rows = unit_rows(generator, 80, 4)
    graph = joined(neighbour_graph(neighbours.nearest(rows, 5)[0]), rows)
    where = generator.permutation(80)[: 3 * classes]
    codes = np.arange(3 * classes) % classes
    dense = graph.toarray()
    degrees = dense.sum(axis=1)
    sources = np.zeros((80, classes))
    sources[where] = np.eye(classes)[codes] - np.eye(classes)[codes].mean(axis=0)
    expected = scipy.linalg.lstsq(np.diag(degrees) - dense, sources)[0]
    expected -= degrees @ expected / degrees.sum()  # conjugate gradients from 0 leave a weighted mean of 0
    found = Poisson(graph).potentials(where, codes, classes)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("most", [0, 16])  # labels a class whose responses are kept
def test_potentials_do_not_depend_on_what_was_asked_before(generator, monkeypatch, most):
    monkeypatch.setattr(poisson, "_KEPT_A_CLASS", most)
    monkeypatch.setattr(poisson, "_KEPT_NUMBERS", 60 * 8)  # of these labels, not of many more
    monkeypatch.setattr(poisson, "_STACKED", 3)
    rows = unit_rows(generator, 60, 4)
    graph = joined(neighbour_graph(neighbours.nearest(rows, 5)[0]), rows)
    where, codes = np.arange(8), np.arange(8) % 3
    used, fresh = Poisson(graph), Poisson(graph)
    for others in (where + 3, where + 20, where + 40):
        used.potentials(others, codes, 3)
    np.testing.assert_array_equal(used.potentials(where, codes, 3), fresh.potentials(where, codes, 3))
    assert len(used._responses) <= (16 if most else 0)


def laplacian(generator, nodes):
    """Return the matrix of a graph of random rows, and the vector that it makes 0, of length 1."""
    rows = unit_rows(generator, nodes, 4)
    graph = joined(neighbour_graph(neighbours.nearest(rows, 5)[0]), rows).toarray()
    roots = np.sqrt(graph.sum(axis=1))
    return np.eye(nodes) - graph / np.outer(roots, roots), roots / np.linalg.norm(roots)


@pytest.mark.parametrize("begun", [False, True])
def test_equations_are_solved_for_many_right_sides(generator, begun):
    dense, null = laplacian(generator, 90)
    right = generator.standard_normal((90, 5))
    right -= np.outer(null, null @ right)
    right[:, 3] = 0
    start = generator.standard_normal((90, 5)) if begun else None
    matrix = solver.Matrix.of(sparse.csr_array(dense))
    found = solver.solutions(matrix, right.copy(), None if start is None else start.copy(), 1e-9)
    found -= np.outer(null, null @ found)
    np.testing.assert_allclose(found, np.linalg.pinv(dense) @ right, atol=1e-6)
    rough = solver.solutions(matrix, right.copy(), None if start is None else start.copy(), 1e-2)
    alone = [solver.solutions(matrix, right[:, [k]], None if start is None else start[:, [k]], 1e-2) for k in range(5)]
    np.testing.assert_array_equal(rough, np.hstack(alone))  # a column does not mind the others
    assert np.abs(rough - np.outer(null, null @ rough) - found).max() > 1e-6


def test_a_matrix_may_come_with_its_columns_in_any_order(generator):
    dense, _ = laplacian(generator, 40)
    rows = [generator.permutation(np.flatnonzero(row)) for row in dense]
    starts = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows)
    mixed = sparse.csr_array((dense[np.repeat(np.arange(40), np.diff(starts)), columns], columns, starts), (40, 40))
    for one, other in zip(solver.Matrix.of(mixed), solver.Matrix.of(sparse.csr_array(dense)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(mixed.indices, columns)  # what was given stays


@pytest.mark.parametrize(("agreed", "taken", "asked"), [((5, 7, 9), 2, 2), ((5, 7, 6), 1, 2), ((5, 4, 9), 0, 1)])
def test_a_round_whose_guesses_the_ridge_has_less_of_does_not_count(generator, monkeypatch, agreed, taken, asked):
    rows = unit_rows(generator, 60, 4)
    images = learn.Images(learn.Space(*[np.ones(4)] * 4), rows, "exact", "cpu", None)
    found = iter([(number, np.full((60, 2), number), share) for number, share in enumerate(agreed)])
    monkeypatch.setattr(images, "_refitted", lambda *_: next(found))
    seen = []
    monkeypatch.setattr(
        learn.Poisson, "among_alike", lambda self, where, codes, scores, before: seen.append(scores[0, 0]) or before
    )
    assert images.predictor(np.arange(4), np.arange(4) % 2, np.full(2, 0.5), "refit") == taken
    assert seen == [0, 1][:asked]  # each round is led by the scores of the one before


def test_links_between_unlike_scores_weigh_less(generator, monkeypatch):
    monkeypatch.setattr(poisson, "_TOGETHER", 2)
    rows, scores = unit_rows(generator, 60, 4), generator.standard_normal((60, 3))
    graph = joined(neighbour_graph(neighbours.nearest(rows, 8)[0]), rows)
    where, codes = np.arange(9), np.arange(9) % 3
    above = scores - scores.mean(axis=0)
    lengths = np.linalg.norm(above, axis=1)
    cosines = above @ above.T / np.outer(lengths, lengths)
    changed = Poisson(sparse.csr_array(graph.toarray() * np.exp(-3 * (1 - cosines))))
    model = Poisson(graph)
    before = model.potentials(where, codes, 3)
    found, expected = model.among_alike(where, codes, scores, before), changed.potentials(where, codes, 3)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.abs(expected).max())
    assert np.abs(before - expected).max() > 0.1 * np.abs(expected).max()
    np.testing.assert_array_equal(model.potentials(where, codes, 3), before)  # the graph stays
