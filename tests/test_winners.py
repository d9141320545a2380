"""Which units win is counted on some of a step's own scores."""

import numpy as np
import pytest

import hebbcore
from hebbcore.engine import update, winners
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate
from hebbcore.rules import as_rule
from hebbcore.training import layer_steps

UNTAUGHT = [name for name, kind in hebbcore.RULES.items() if not kind.supervised]


def outputs(rule, images, weights, workspace, chosen=None, **options):
    """Return a step's ΔW, and its output, or some rows of it."""
    geometry = Geometry.of("test", images.shape, 3, 1, 0, "zeros")
    rows = len(images) * geometry.positions
    out = np.full((rows if chosen is None else len(range(rows)[chosen]), len(weights)), np.nan)
    output = Output(rule, **options)
    steps = BatchedUpdate(rule, geometry, len(weights), "float64", workspace, "test", output=output)
    delta, _ = steps.begin(images, weights, out, chosen=chosen)()
    return delta.copy(), out


@pytest.mark.parametrize("workspace", [2**15, 2**26], ids=["many chunks", "one"])
@pytest.mark.parametrize("name", UNTAUGHT)
def test_some_rows_of_an_output_are_those_of_the_whole(name, workspace, generator):
    images, weights = generator.normal(size=(5, 9, 9, 2)), generator.normal(size=(6, 18))
    rule = as_rule("test", name)
    for options in ({}, {"linear": True}, {"response": "cosine"}, {"response": "cosine-exp", "width": 0.5}):
        changed, whole = outputs(rule, images, weights, workspace, **options)
        for chosen in (slice(0, 245, 1), slice(0, 245, 7), slice(3, 200, 50), slice(244, 245, 300), slice(9, 9, 4)):
            same, found = outputs(rule, images, weights, workspace, chosen, **options)
            np.testing.assert_allclose(found, whole[chosen], rtol=0, atol=1e-12)
            np.testing.assert_array_equal(same, changed)


def test_a_small_step_puts_its_output_out_without_the_way_of_many_chunks(generator, monkeypatch):
    images, weights = generator.normal(size=(2, 5, 5, 2)), generator.normal(size=(6, 18))
    _, expected = outputs(as_rule("test", "swta"), images, weights, 2**15)
    monkeypatch.setattr(update, "Step", None)  # what that way begins with
    np.testing.assert_allclose(outputs(as_rule("test", "swta"), images, weights, 2**26)[1], expected, atol=1e-12)


def reference_wins(rule, patches, weights):
    """Return how many patches each unit wins, one by one."""
    counts = np.zeros(len(weights), np.int64)
    for patch in patches:
        scores = weights @ patch / (np.linalg.norm(weights, axis=1) if rule.needs_norms else 1)
        scores = np.abs(scores) if rule.signed else scores
        counts[np.argmax(scores)] += scores.max() > scores.min()
    return counts


@pytest.mark.parametrize("name", ["swta", "kwta", "signedwta", "softhebb", "hardwta", "krotov"])
@pytest.mark.parametrize("images", [7, 40], ids=["all patches", "an eighth"])
def test_a_training_counts_who_wins_in_its_last_pass(name, images, generator, monkeypatch):
    data, weights = generator.normal(size=(images, 6, 6, 1)), generator.normal(size=(5, 3, 3, 1))
    told = []
    monkeypatch.setattr(layer_steps, "tell_dead", lambda function, name, rule, counts, level: told.append(counts))
    monkeypatch.setattr(winners, "few_are_dead", lambda counts: False)
    hebbcore.train_layer(
        data, 5, 3, rule=name, initial_weights=weights, learning_rate=1e-12, batch_size=images, epochs=2, shuffle=False,
        precision="float64",
    )  # fmt: skip
    patches = hebbcore.im2col(data, 3)
    every = 1 if images == 7 else 8
    np.testing.assert_array_equal(
        told[0], reference_wins(as_rule("test", name), patches[::every], weights.reshape(5, -1))
    )


def test_nobody_counts_any_more_once_nearly_all_units_have_won(generator, monkeypatch):
    data, told = generator.normal(size=(400, 6)), []
    monkeypatch.setattr(layer_steps, "tell_dead", lambda function, name, rule, counts, level: told.append(counts))
    looks = []
    wins = winners.wins
    monkeypatch.setattr(winners, "wins", lambda *given: looks.append(0) or wins(*given))
    for units, most in ((2, 4), (200, 99)):
        looks.clear()
        hebbcore.train_layer(data, units, rule="kwta", batch_size=4, learning_rate=1e-9)
        assert (len(looks) <= most) == (units == 2)  # all of 2 win soon, but never 180 of 200 some 100 patches
        assert winners.few_are_dead(told[-1]) == (units == 2)
