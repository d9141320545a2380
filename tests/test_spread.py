"""What is looked at of a batch is spread over all positions of its maps, whatever their width."""

import numpy as np
import pytest

import hebbcore
from hebbcore.engine import winners
from hebbcore.engine.group.portion import Portion
from hebbcore.engine.moments import column_moments
from hebbcore.engine.patches import Geometry
from hebbcore.engine.soundness import largest_stable_rate
from hebbcore.engine.spread import spread_rows, spread_step

POSITIONS = [1, 4, 256, 784, 900, 1024, 961]


@pytest.fixture
def bordered(generator):
    """64 images of 32×32 pixels with a black border of four, as of handwritten digits."""
    images = np.zeros((64, 32, 32, 1), np.float32)
    images[:, 4:28, 4:28] = generator.uniform(0.1, 1, (64, 24, 24, 1))
    return images


@pytest.mark.parametrize("images", [1, 10, 64, 1000])
@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_looked_at_is_of_all_positions(positions, images):
    rows = images * positions
    seen = np.arange(0, rows, spread_step(rows, 1024, positions))
    assert len(seen) <= 1024
    counts = np.bincount(seen % positions, minlength=positions)
    assert counts.max() - counts.min() <= 1
    if rows <= 1024:
        assert len(seen) == rows


@pytest.mark.parametrize("images", [1, 2, 64, 1000])
@pytest.mark.parametrize("positions", POSITIONS)
def test_just_so_many_rows_are_of_all_positions_and_images(positions, images):
    rows = images * positions
    count = min(rows, 1000)
    seen = spread_rows(rows, count)
    assert len(np.unique(seen)) == count
    assert seen.tolist() == sorted(seen.tolist())
    assert seen[-1] < rows
    for counts in (np.bincount(seen % positions, minlength=positions), np.bincount(seen // positions)):
        assert counts.max() - counts.min() <= max(2, 0.6 * counts.mean())


@pytest.mark.parametrize("positions", POSITIONS)
def test_processes_look_at_what_one_does(positions):
    seen, numbers = [], []
    for first, images in ((0, 20), (20, 0), (20, 44)):
        rows = max(1, images) * positions
        chosen, number = Portion(None, first, images, 64).spread(rows, 1000)
        seen += (first * positions + np.arange(rows)[chosen]).tolist()
        numbers += [number] if images else []
    assert seen == list(range(0, 64 * positions, spread_step(64 * positions, 1000, positions)))
    assert numbers[0] == 0
    assert seen[numbers[1]] >= 20 * positions > seen[numbers[1] - 1]


@pytest.mark.parametrize("rule", [hebbcore.KWTA(), hebbcore.SignedWTA(k=8), hebbcore.SoftHebb()], ids=repr)
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2)])
def test_wins_are_counted_inside_of_a_black_border(rule, kernel, padding, bordered, generator):
    g = Geometry.of("test", bordered.shape, kernel, 1, padding, "zeros")
    weights = generator.normal(size=(8, g.patch_size)).astype(np.float32)
    share = (hebbcore.im2col(bordered, kernel, 1, padding) != 0).any(axis=1).mean()
    some = winners.some_patches(bordered, g, np.dtype(np.float32))
    lengths = np.linalg.norm(weights, axis=1) if rule.needs_norms else 1
    found = winners.wins(rule, some @ weights.T / lengths, weights, 0, g.positions)
    turns = rule.winners_in_turn()
    assert found.sum() == pytest.approx(share * len(some) * turns / winners.coprime(turns, g.positions), rel=0.1)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 2), (1, 0)])
def test_the_stable_rate_is_that_of_all_patches(kernel, padding, bordered):
    g = Geometry.of("test", bordered.shape, kernel, 1, padding, "zeros")
    patches = hebbcore.im2col(bordered, kernel, 1, padding).astype(np.float64)
    expected = 1 / np.linalg.eigvalsh(patches.T @ patches / len(patches))[-1]
    assert largest_stable_rate(hebbcore.HPCA(), bordered, g) == pytest.approx(expected, rel=0.1)


def test_records_and_revival_know_the_winners_inside_of_a_black_border(bordered):
    def trained(**options):
        layer = hebbcore.Conv(4, 3, "kwta", padding=1, learning_rate=0.5, **options)
        network, records = hebbcore.Network([layer], (32, 32, 1)), []
        weights = np.random.default_rng(0).uniform(0, 1, (4, 3, 3, 1)).astype(np.float32)
        layer.weights = weights * np.array([1, 1, 1, -1], np.float32)[:, None, None, None]  # the last one wins nothing
        hebbcore.fit(network, bordered, epochs=4, batch_size=16, callback=records.append, log_seconds=0)
        return records[-1]["layers"]["conv1"]

    share = (hebbcore.im2col(bordered, 3, 1, 1) != 0).any(axis=1).mean()
    left, revived = trained(), trained(revival=20.0)
    assert left["winners"] == pytest.approx(1024 * share, rel=0.1)
    assert (left["dead"], revived["dead"]) == (1, 0)


@pytest.mark.parametrize("rule", ["softhebb", "hardwta", "krotov"])
def test_records_of_cosines_tell_who_wins_by_the_scores_of_the_rule(rule, generator):
    X = generator.uniform(0, 1, (800, 10)).astype(np.float32)
    weights = (generator.uniform(0, 1, (4, 10)) * np.array([[3], [2.9], [0.3], [0.1]])).astype(np.float32)
    entropies = []
    for response in ("rule", "cosine", "cosine-exp"):
        network, records = hebbcore.Network([hebbcore.Dense(4, rule, response=response)], (10,)), []
        network.layers[0].weights = weights
        options = {"batch_size": 800, "shuffle": False, "learning_rate": 1e-9}
        hebbcore.fit(network, X, callback=records.append, log_seconds=0, **options)
        entropies.append(records[0]["layers"]["fc1"]["entropy"])
    assert entropies == pytest.approx([entropies[0]] * 3, abs=0.2)  # of a hundred patches
    cosines = X @ (weights / np.linalg.norm(weights, axis=1, keepdims=True)).T
    shares = np.bincount(cosines.argmax(axis=1), minlength=4) / len(X)
    assert -(shares * np.log2(shares)).sum() > entropies[0] + 0.3


def test_the_mean_that_sums_are_taken_about_is_of_all_positions(generator):
    """One in 1,024 rows, of 64 images of 32×32 pixels, would be their first pixels alone."""
    x = generator.normal(1000, 0.1, (64, 32 * 32, 2)).astype(np.float32)
    x[:, 0] = 0
    rows = x.reshape(-1, 2)
    _, squares = column_moments(rows)
    np.testing.assert_allclose(squares / len(rows), rows.astype(np.float64).var(axis=0), rtol=1e-5)
