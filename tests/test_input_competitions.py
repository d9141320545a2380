"""What the public competition functions accept, and how they refuse the rest."""

import numpy as np
import pytest
from input_helpers import ARRAYS, refused, spoiled

import hebbcore

SCORES = np.random.default_rng(3).normal(size=(5, 4))
WTA = {
    "softmax_wta": hebbcore.softmax_wta,
    "k_wta": lambda scores: hebbcore.k_wta(scores, 2),
    "argmax_wta": hebbcore.argmax_wta,
}


@pytest.mark.parametrize("function", WTA)
@pytest.mark.parametrize(
    ("scores", "error", "parts"),
    [
        (SCORES[0], ValueError, ["(patches, units)", "(4,)"]),
        (SCORES[None], ValueError, ["(patches, units)", "(1, 5, 4)"]),
        (SCORES[:0], ValueError, ["not empty", "(0, 4)"]),
        (SCORES.astype(np.float16), TypeError, ["float32 or float64", "float16"]),
        (SCORES.astype(int), TypeError, ["float32 or float64", "int64"]),
        (SCORES > 0, TypeError, ["float32 or float64", "bool"]),
        (SCORES.astype(complex), TypeError, ["array of numbers", "complex128"]),
        ("scores", TypeError, ["array of numbers", "str"]),
        (None, TypeError, ["array of numbers", "NoneType"]),
        (spoiled(SCORES), ValueError, ["finite"]),
        (spoiled(SCORES, -np.inf), ValueError, ["finite"]),
        ([[1.0], [1.0, 2.0]], TypeError, ["array of numbers", "list"]),
    ],
)
def test_bad_scores_are_refused(function, scores, error, parts):
    assert refused(error, parts, WTA[function], scores).startswith(f"{function}: scores must be ")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hebbcore.softmax_wta(SCORES, 0), ValueError, "softmax_wta: temperature must be above 0, got 0"),
        (lambda: hebbcore.softmax_wta(SCORES, np.nan), ValueError, "softmax_wta: temperature must be finite, got nan"),
        (lambda: hebbcore.softmax_wta(SCORES, "1"), TypeError, "softmax_wta: temperature must be a number, got '1'"),
        (lambda: hebbcore.k_wta(SCORES, 0), ValueError, "k_wta: k must be at least 1, got 0"),
        (lambda: hebbcore.k_wta(SCORES, 5), ValueError, "k_wta: k must be between 1 and the number of units (4)"),
        (lambda: hebbcore.k_wta(SCORES, 1.0), TypeError, "k_wta: k must be an integer, got 1.0"),
        (lambda: hebbcore.k_wta(SCORES, True), TypeError, "k_wta: k must be an integer, got True"),
    ],
)  # fmt: skip
def test_bad_parameters_of_competitions_are_refused(call, error, message):
    refused(error, [message], call)


@pytest.mark.parametrize("function", WTA)
@pytest.mark.parametrize("kind", [kind for kind in ARRAYS if kind not in ("channels-first view", "negative strides")])
def test_scores_may_come_in_any_form_and_are_not_modified(tmp_path, function, kind):
    scores = ARRAYS[kind](SCORES, tmp_path)
    before = SCORES.copy()
    np.testing.assert_array_equal(WTA[function](scores), WTA[function](SCORES))
    np.testing.assert_array_equal(SCORES, before)
