"""Problems and comparisons that the tests of RidgeReadout share."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from hebbcore.evaluation.ridge import holdout, linear_system, sums
from hebbcore.evaluation.ridge import rows as ridge_rows

ALPHAS = (0.01, 1.0, 100.0)


@pytest.fixture
def tiny_pieces(monkeypatch):
    """Make every loop over pieces run more than once on small arrays."""
    monkeypatch.setattr(linear_system, "_TILE", 3)
    monkeypatch.setattr(linear_system, "_COPIED", 2)
    monkeypatch.setattr(linear_system, "_TERMS", 5)
    monkeypatch.setattr(sums, "_BLOCK_ROWS", 7)
    monkeypatch.setattr(holdout, "_PIECE", 5)
    monkeypatch.setattr(ridge_rows, "_BLOCK_BYTES", 8 * 12 * 5)
    monkeypatch.setattr("hebbcore.evaluation.ridge.systems._BLOCK_BYTES", 8 * 12 * 5)


def problem(generator, rows=120, features=12, classes=4, dtype=np.float32, offset=0.0, noise=1.0):
    """Return features of overlapping classes, some of them correlated and of different sizes, and labels."""
    labels = generator.permutation(np.arange(rows) % classes)
    centres = generator.normal(size=(classes, features))
    values = centres[labels] + noise * generator.normal(size=(rows, features)) @ generator.normal(size=(features,) * 2)
    return (values * np.linspace(0.3, 3, features) + offset).astype(dtype), labels


def cut(features, labels, *ends):
    """Return the rows as batches that end at these rows."""
    return [(features[i:j], labels[i:j]) for i, j in zip([0, *ends], [*ends, len(labels)], strict=True)]


def same_scores(model, expected, features, tolerance):
    actual = model.decision_function(features)
    wanted = expected.decision_function(np.asarray(features, np.float64))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(model.predict(features), expected.classes_[_first_largest(wanted)])


def _first_largest(scores):
    return (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)


# The penalty


def slow_choice(features, labels, held, alphas, **options):
    """Return the accuracies of RidgeClassifier on held-out rows."""
    rest = ~held
    models = [RidgeClassifier(alpha, **options).fit(features[rest], labels[rest]) for alpha in alphas]
    return [model.score(features[held], labels[held]) for model in models]
