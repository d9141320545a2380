"""What is wrong in a configuration is told by the path of its key, however a check words it."""

import dataclasses
import re
from dataclasses import dataclass

import pytest

import hebbcore
from hebbcore import checks
from hebbcore.runs.architecture import Architecture
from hebbcore.runs.config import Config, Data, config_of
from hebbcore.training.settings import Training

WRONG = [None, True, -1, 0, 1.5, float("nan"), "", "x", [1, 2, 3, 4], {}]  # no key takes all of them
NEEDED = {
    "conv": {"units": 2, "kernel_size": 3}, "dense": {"units": 2}, "pool": {"window": 2}, "gridpool": {"cells": 2},
    "whiten": {"kernel_size": 3}, "gaussianpool": {"stride": 2},
    "branches": {"branches": [[{"type": "relu"}], [{"type": "split"}]]},
}  # fmt: skip
# of two keys, or of all layers together
MORE_THAN_A_KEY = r"config: network: (give preset or layers|a layer's name |(nystrom1|x) needs )"


def with_layer(layer):
    return {"data": {"path": "x.h5"}, "network": {"layers": [layer], "image_shape": [8, 8, 3]}, "device": "cpu"}


def layer_with(name, key, value):
    return with_layer({"type": name, **NEEDED.get(name, {}), key: value})


def rule_with(name, key, value):
    return with_layer({"type": "conv", **NEEDED["conv"], "rule": {"name": name, key: value}})


def part_with(name, key, value):
    table = with_layer({"type": "conv", **NEEDED["conv"]})
    if (name, key) == ("network", "preset"):
        del table["network"]["layers"]
    part = table.setdefault(name, {}) if name else table
    part[key] = value
    return table


def keys_of(kind):
    return [field.name for field in dataclasses.fields(kind) if field.init]


PARTS = {"data": Data, "network": Architecture, "training": Training, "": Config}
CASES = [  # the path of a key, and what makes a configuration in which it has some value
    *(
        (f"network.layers[0].{key}", layer_with, name, key)
        for name, kind in hebbcore.LAYERS.items()
        for key in keys_of(kind)
    ),
    *(
        (f"network.layers[0].rule.{key}", rule_with, name, key)
        for name, kind in hebbcore.RULES.items()
        for key in keys_of(kind)
    ),
    *((f"{name}.{key}".lstrip("."), part_with, name, key) for name, kind in PARTS.items() for key in keys_of(kind)),
]


def messages(make, name, key):
    """Return what is said of each wrong value that is refused."""
    found = []
    for value in WRONG:
        try:
            config_of(make(name, key, value)).make_network()
        except (TypeError, ValueError) as error:
            found.append(str(error))
    return found


def require_named(path, told):
    assert told, f"{path} takes every value"
    for message in told:
        named = re.match(rf"config: {re.escape(path)}[ .\[]", message)
        assert named or re.match(MORE_THAN_A_KEY, message), message


@pytest.mark.parametrize(("path", "make", "name", "key"), CASES, ids=[f"{case[0]} {case[2]}" for case in CASES])
def test_a_wrong_value_of_any_key_is_told_by_its_path(path, make, name, key):
    require_named(path, messages(make, name, key))


def test_the_wording_of_a_check_does_not_matter(monkeypatch):
    """No message is read to find out which key it is about."""
    made = checks.wrong

    def reworded(kind, function, argument, problem="", *, text=None):
        if function != "config":  # which names a configuration as a whole
            function = f"Oh: dear {function}"
        if text is None and argument is not None:
            problem = "- config: Conv: units must not"
        return made(kind, function, argument, problem, text=text)

    monkeypatch.setattr(checks, "wrong", reworded)
    for path, make, name, key in CASES:
        require_named(path, messages(make, name, key))
    assert "config: network.layers[0].units - config: Conv: units must not" in messages(layer_with, "conv", "units")
    told = messages(part_with, "network", "image_shape")
    assert "config: network.image_shape - config: Conv: units must not" in told


def test_an_error_tells_what_it_is_about():
    with pytest.raises(ValueError, match=r"^Conv: units must be at least 1, got 0\.$") as caught:
        hebbcore.Conv(0, 3)
    assert type(caught.value) is ValueError
    assert checks.about(caught.value) == ("units", "must be at least 1, got 0.", "units must be at least 1, got 0.")
    whole = checks.wrong(TypeError, "fit", "data", text="all of the data are odd.")
    assert (str(whole), checks.about(whole)) == (
        "fit: all of the data are odd.", ("data", "", "all of the data are odd."),
    )  # fmt: skip
    assert checks.about(ValueError("a: b c")) == (None, "a: b c", "a: b c")


def test_what_a_rule_of_ones_own_says_is_told_with_the_path_of_its_table(monkeypatch):
    @dataclass(frozen=True)
    class Mine(hebbcore.Rule):
        factor: float = 1.0

        def __post_init__(self):
            if self.factor == 3:
                raise ValueError("Mine: factor is 3, which no check of hebbcore said.")
            checks.positive("Mine", "factor", self.factor)

    monkeypatch.setitem(hebbcore.RULES, "mine", Mine)
    for value, message in (
        (-1, "config: network.layers[0].rule.factor must be above 0, got -1."),
        (3, "config: network.layers[0].rule: Mine: factor is 3, which no check of hebbcore said."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            config_of(rule_with("mine", "factor", value))
