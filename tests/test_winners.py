"""Which units win is counted on some of a step's own scores."""

import numpy as np
import pytest

import hebbcore
from hebbcore.engine import update
from hebbcore.engine.output import Output
from hebbcore.engine.patches import Geometry
from hebbcore.engine.update import BatchedUpdate
from hebbcore.engine.winners import Chosen, Tally, few_are_dead, spread
from hebbcore.rules import as_rule
from hebbcore.training import layer_steps

UNTAUGHT = [name for name, kind in hebbcore.RULES.items() if not kind.supervised]


def updater(rule, images, units, workspace, **options):
    """Return what computes the changes of a layer of 3 × 3 kernels."""
    geometry = Geometry.of("test", images.shape, 3, 1, 0, "zeros")
    return BatchedUpdate(rule, geometry, units, "float64", workspace, "test", output=Output(rule, **options))


class Kept(Tally):
    """A tally that keeps what it counted by."""

    def count(self, responses):
        self.responses = responses.copy()
        super().count(responses)


@pytest.mark.parametrize("workspace", [2**15, 2**26], ids=["many chunks", "one"])
@pytest.mark.parametrize("name", UNTAUGHT)
def test_a_tally_gets_the_responses_of_its_rows_whatever_the_layer_puts_out(name, workspace, generator):
    images, weights = generator.normal(size=(5, 9, 9, 2)), generator.normal(size=(6, 18))
    rule = as_rule("test", name)
    out = np.full((245, 6), np.nan)
    changed, scale = updater(rule, images, 6, workspace, linear=True).delta(images, weights, out)
    for options in ({}, {"linear": True}, {"response": "cosine"}, {"response": "cosine-exp", "width": 0.5}):
        expected = np.full((245, 6), np.nan)
        updater(rule, images, 6, workspace, **options).delta(images, weights, expected)
        for chosen in (slice(0, 245, 1), slice(0, 245, 7), slice(3, 200, 50), slice(244, 245, 300), slice(9, 9, 4)):
            put, tally = np.full((245, 6), np.nan), Kept(rule, weights, Chosen(chosen, 0, 49))
            step = updater(rule, images, 6, workspace, **options).begin(images, weights, put, tally=tally)
            updated, other, _ = step()
            np.testing.assert_allclose(tally.responses, out[chosen], rtol=0, atol=1e-12)
            np.testing.assert_allclose(put, expected, rtol=0, atol=1e-12)
            np.testing.assert_allclose(updated * other, changed * scale, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(tally.total, tally.counts)


def test_a_small_step_takes_no_other_way_to_count_or_to_put_out(generator, monkeypatch):
    images, weights = generator.normal(size=(2, 5, 5, 2)), generator.normal(size=(6, 18))
    rule = as_rule("test", "swta")
    monkeypatch.setattr(update, "Step", None)  # what the way of many chunks begins with
    tally = Tally(rule, weights, spread(18, 9))
    updater(rule, images, 6, 2**26).begin(images, weights, np.empty((18, 6)), tally=tally)()
    np.testing.assert_array_equal(tally.counts, reference_wins(rule, hebbcore.im2col(images, 3), weights))


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
    monkeypatch.setattr(layer_steps, "few_are_dead", lambda counts: False)
    hebbcore.train_layer(
        data, 5, 3, rule=name, initial_weights=weights, learning_rate=1e-12, batch_size=images, epochs=2, shuffle=False,
        precision="float64",
    )  # fmt: skip
    patches = hebbcore.im2col(data, 3)
    every = 1 if images == 7 else 9  # which has no divisor in common with 16 positions
    np.testing.assert_array_equal(
        told[0], reference_wins(as_rule("test", name), patches[::every], weights.reshape(5, -1))
    )


def test_nobody_counts_any_more_once_nearly_all_units_have_won(generator, monkeypatch):
    data, told = generator.normal(size=(400, 6)), []
    monkeypatch.setattr(layer_steps, "tell_dead", lambda function, name, rule, counts, level: told.append(counts))
    looks = []
    monkeypatch.setattr(layer_steps, "Tally", lambda *given, **more: looks.append(0) or Tally(*given, **more))
    for units, most in ((2, 4), (200, 99)):
        looks.clear()
        hebbcore.train_layer(data, units, rule="kwta", batch_size=4, learning_rate=1e-9)
        assert (len(looks) <= most) == (units == 2)  # all of 2 win soon, but never 180 of 200 some 100 patches
        assert few_are_dead(told[-1]) == (units == 2)


def test_steps_seldom_count_once_enough_patches_were_looked_at(monkeypatch):
    looks, data = [], np.tile(np.eye(6), (1600, 1))[:8000]  # six kinds of patches have six winners
    monkeypatch.setattr(layer_steps, "Tally", lambda *given, **more: looks.append(0) or Tally(*given, **more))
    with pytest.warns(UserWarning, match=r"\d+ of 40 units of the layer won none of the 1,872 patches"):
        hebbcore.train_layer(data, 40, rule="kwta", batch_size=4, learning_rate=1e-9)
    assert len(looks) == 468  # 250 steps see 1,000 patches, and of the 1,750 others one in eight counts


def test_steps_that_seldom_count_stop_too_once_nearly_all_units_have_won(monkeypatch):
    looks, early, late = [], np.tile(np.eye(6)[:3], (1000, 1)), np.tile(np.eye(6), (1000, 1))
    monkeypatch.setattr(layer_steps, "Tally", lambda *given, **more: looks.append(0) or Tally(*given, **more))
    data = np.concatenate([early, late])  # three units win from the 751st step on
    hebbcore.train_layer(
        data, 6, rule="kwta", batch_size=4, learning_rate=1e-9, initial_weights=np.eye(6), shuffle=False
    )
    assert 250 < len(looks) < 250 + (752 + 32 - 250) / 8 + 1  # of 2,250 steps
