"""Parameters of the transformers that are set between two parts of partial_fit."""

from copy import deepcopy

import pytest
from sklearn.datasets import load_digits

import hebbcore
from hebbcore.estimators import HebbianNetworkTransformer, HebbianTransformer


def test_parameters_that_come_too_late_for_the_network_are_refused():
    rows = load_digits().data / 16
    one = HebbianTransformer(5, rule="swta", random_state=0).partial_fit(rows[:100])
    one.set_params(batch_size=7, mirror=False).partial_fit(rows[:100])
    for name, value in (("units", 6), ("learning_rate", 0.1), ("rule", hebbcore.SWTA(temperature=0.1))):
        with pytest.raises(ValueError, match=rf"partial_fit: {name}=.* has no effect on the network that learns"):
            deepcopy(one).set_params(**{name: value}).partial_fit(rows[:100])
    assert one.set_params(units=6).fit(rows[:100]).transform(rows[:1]).shape == (1, 6)
    several = HebbianNetworkTransformer([hebbcore.Dense(4, "swta")], random_state=0).partial_fit(rows[:100])
    several.set_params(learning_rate=0.01, schedule="linear").partial_fit(rows[:100])
    with pytest.raises(ValueError, match="partial_fit: network="):
        several.set_params(network=[hebbcore.Dense(5, "swta")]).partial_fit(rows[:100])
    several.set_params(network=[hebbcore.Dense(4, "swta")]).partial_fit(rows[:100])
