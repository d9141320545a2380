"""Estimators under scikit-learn's array_api_dispatch, which SciPy must be told of before it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cupy_helpers import cupy

from hebbcore.estimators import HebbianTransformer

__all__ = ["cupy"]
SCRIPT = """
import sys
import numpy as np
import sklearn
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_array_api_input
import hebbcore
from hebbcore.classify import FewLabelClassifier
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer
from hebbcore.evaluation import RidgeReadout

namespace, device = sys.argv[1], sys.argv[2] or None
transformers = HebbianTransformer(8, device="cpu"), HebbianNetworkTransformer([hebbcore.Dense(5)], device="cpu")
for estimator in (*transformers, RidgeReadout()):
    assert get_tags(estimator).array_api_support
    check_array_api_input("it", estimator, namespace, device, "float32", check_values=True)

xp = __import__(namespace)
on = {"device": xp.Device(device)} if namespace == "array_api_strict" and device else {}
random = np.random.default_rng(0)
X, labels = random.random((60, 4, 4, 1), np.float32), np.arange(60) % 2
X[labels == 1, :2] += 1
given, y = xp.asarray(X, **on), xp.asarray(labels, **on)
rows, given_rows = X.reshape(60, -1), xp.asarray(X.reshape(60, -1), **on)
host = lambda array: np.asarray(xp.asarray(array, device=xp.Device("CPU_DEVICE"))) if on else np.asarray(array)
texts = np.array(["a", "b"])[labels]

with sklearn.config_context(array_api_dispatch=True):
    transformer = HebbianTransformer(6, 2, device="cpu", random_state=0)
    features = transformer.fit_transform(given)
    assert type(features) is type(given) and features.dtype == xp.float32 and features.device == given.device
    np.testing.assert_array_equal(host(features), sklearn.clone(transformer).fit_transform(X))
    pipe = make_pipeline(HebbianTransformer(6, device="cpu", random_state=0), Ridge())
    assert type(pipe.fit(given_rows, xp.asarray(labels, dtype=xp.float32, **on)).predict(given_rows)) is type(given)
    for classifier in (RidgeReadout(), FewLabelClassifier()):
        plain = sklearn.clone(classifier).fit(rows, labels)
        classifier.fit(given_rows, y)
        for method in ("predict", "predict_proba"):
            found = getattr(classifier, method)(given_rows)
            assert type(found) is type(given) and found.device == given.device, method
            np.testing.assert_allclose(host(found), getattr(plain, method)(rows))
        assert classifier.score(given_rows, y) > 0.9
        assert classifier.fit(given_rows, texts).predict(given_rows).tolist() == texts.tolist()
print("done")
"""


@pytest.mark.parametrize("library", ["array_api_strict", "array_api_strict device1", "torch"])
def test_results_are_of_the_library_of_the_data(library):
    namespace, _, device = library.partition(" ")
    pytest.importorskip(namespace)
    environment = {**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, namespace, device]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


def test_cupy_arrays_must_be_finite_as_numpys(generator, request):
    rows = generator.random((30, 64), np.float32)
    transformer = HebbianTransformer(4, device="cpu", random_state=0).fit(rows)
    there = request.getfixturevalue("cupy").asarray(rows)  # after fit, which would ask the stand-in for a stream
    there[5, 3] = np.nan
    with pytest.raises(ValueError, match=r"HebbianTransformer: X must be finite, but X\[5\] holds NaN or infinity"):
        transformer.transform(there)
