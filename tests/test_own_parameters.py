"""Parameters of rules and layers of one's own, in files, runs and configurations."""

import enum
import typing
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple, Optional

import numpy as np
import pytest

import hebbcore
from hebbcore.serialize import compared, layer_of, layer_table, rule_of, rule_table

IMAGES = np.random.default_rng(0).normal(size=(12, 6, 6, 1)).astype(np.float32)


class Oja(hebbcore.Rule):
    def gate(self, scores, norms):
        return hebbcore.Gate(scores, decay=(scores * scores).sum(axis=0))


@dataclass(frozen=True)
class Rates(Oja):
    """A rate for each unit, and what is made of it."""

    factors: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)
    pairs_of: tuple = ((1, 2), (3, 4))
    names: list = field(default_factory=lambda: ["a", "b"])
    later: object = field(default=(1, 2), metadata={"later": True})
    unknown: float = float("nan")
    column: tuple = field(init=False, default=())

    def __post_init__(self):
        object.__setattr__(self, "column", tuple((each,) for each in self.factors))

    def rate(self, weights, learning_rate):
        return learning_rate * np.array(self.column)


@dataclass(frozen=True)
class Named(Oja):
    name: str = "mine"


@dataclass(frozen=True)
class Inside(Oja):
    inner: hebbcore.Rule = field(default_factory=lambda: hebbcore.HPCA("tanh"))


@dataclass(eq=False)
class Powers(hebbcore.Layer):
    powers: tuple[int, int] = (1, 2)
    name: str = ""

    def forward(self, x, out, training):
        out[...] = x ** self.powers[0] + x ** self.powers[1]


@dataclass(eq=False)
class Typed(hebbcore.Layer):
    type: str = "mine"
    name: str = ""


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for rule in (Rates, Named, Inside):
        monkeypatch.setitem(hebbcore.RULES, rule.__name__.lower(), rule)
    for layer in (Powers, Typed):
        monkeypatch.setitem(hebbcore.LAYERS, layer.__name__.lower(), layer)


def network(rule, *more):
    return hebbcore.Network([hebbcore.Conv(4, 3, rule=rule), *more], (6, 6, 1), device="cpu")


@pytest.mark.parametrize("later", [(1, 2), (3,)])
@pytest.mark.parametrize("suffix", ["h5", "safetensors"])
def test_tuples_and_what_is_made_of_them_come_back_from_files(later, suffix, tmp_path):
    rule = Rates((4.0, 3.0, 2.0, 1.0), later=later)
    for model in (network(rule, Powers((2, 3))), hebbcore.train_layer(IMAGES, 4, 3, rule=rule, device="cpu")):
        hebbcore.save(tmp_path / f"model.{suffix}", model)
        back = hebbcore.load(tmp_path / f"model.{suffix}", device="cpu")
        found = back.layers[0].rule if isinstance(back, hebbcore.Network) else back.rule
        assert repr(found) == repr(rule)  # NaN is not equal to itself
    assert rule_of(rule_table("test", rule), "").pairs_of == ((1, 2), (3, 4))
    assert layer_of(layer_table("test", Powers((2, 3))), "").powers == (2, 3)


def test_a_run_goes_on_with_them(tmp_path):
    rule = Rates()
    hebbcore.fit(network(rule), IMAGES, epochs=1, run=tmp_path / "run")
    again = hebbcore.fit(network(rule), IMAGES, epochs=2, run=tmp_path / "run")
    np.testing.assert_array_equal(
        again["conv1"].weights, hebbcore.fit(network(rule), IMAGES, epochs=2)["conv1"].weights
    )
    with pytest.raises(ValueError, match=r"layers\[0\]\.rule\.unknown is 1\.0 here and nan there"):
        hebbcore.fit(network(Rates(unknown=1.0)), IMAGES, epochs=2, run=tmp_path / "run")


def test_a_parameter_that_tables_have_no_place_for_is_told(tmp_path):
    """It took the place of the rule's name, and files could be written, not read."""
    with pytest.raises(ValueError, match="fit: Named has a parameter name, which in tables says what it is"):
        hebbcore.fit(network(Named()), IMAGES, run=tmp_path / "run")
    with pytest.raises(ValueError, match="save: Named has a parameter name"):
        hebbcore.save(tmp_path / "layer.h5", hebbcore.train_layer(IMAGES, 4, 3, rule=Named(), device="cpu"))
    with pytest.raises(ValueError, match="test: Typed has a parameter type"):
        layer_table("test", Typed())


def test_a_rule_in_a_rule_is_refused_before_any_work(tmp_path):
    """It came back as a dict."""
    with pytest.raises(TypeError, match=r"HPCA\(activation='tanh'.*\) cannot be written to a checkpoint"):
        hebbcore.fit(network(Inside()), IMAGES, run=tmp_path / "run")


def test_nan_is_like_nan():
    assert compared({"a": float("nan")}, {"a": float("nan")}) == []
    assert compared({"a": float("nan")}, {"a": 1.0}) == [("a", "a is nan here and 1.0 there")]


@pytest.mark.parametrize("name", ["mean/b", "mean\0b"])
def test_a_state_that_files_cannot_hold_is_refused_before_any_work(name, tmp_path, monkeypatch):
    """Such a file was written, and was damaged to those who read it."""

    @dataclass(frozen=True)
    class Stateful(Oja):
        def initial_state(self):
            return {name: 0.0}

        def next_state(self, state, scores):
            return {name: scores.mean}

    monkeypatch.setitem(hebbcore.RULES, "stateful", Stateful)
    told = "an array called 'state_mean.*b' cannot be saved"
    with pytest.raises(ValueError, match=f"conv1: {told}"):
        hebbcore.fit(network(Stateful()), IMAGES, run=tmp_path / "run")
    with pytest.raises(ValueError, match=f"the layer: {told}"):
        hebbcore.save(tmp_path / "layer.h5", hebbcore.train_layer(IMAGES, 4, 3, rule=Stateful(), device="cpu"))


@dataclass(frozen=True)
class Table(Oja):
    table: dict = field(default_factory=lambda: {"a": [{"b": 2.0}]})


@dataclass(eq=False)
class Looked(Powers):
    table: dict = field(default_factory=dict)


@pytest.mark.parametrize("key", [0, 1.5, None, True])
def test_keys_that_are_no_texts_are_refused_where_they_are_written_down(key, tmp_path, monkeypatch):
    """Files made texts of them, which the rule did not find there."""
    monkeypatch.setitem(hebbcore.RULES, "table", Table)
    monkeypatch.setitem(hebbcore.LAYERS, "looked", Looked)
    with pytest.raises(ValueError, match=rf"fit: Table\.table has the key {key}, but keys are texts where"):
        hebbcore.fit(network(Table({"a": ({key: 2.0},)})), IMAGES, run=tmp_path / "run")
    with pytest.raises(ValueError, match=rf"save: Looked\.table has the key {key}, but keys are texts where"):
        hebbcore.save(tmp_path / "network.h5", network("hpca", Looked(table={key: 1})))
    hebbcore.save(tmp_path / "network.h5", network(Table(), Looked(table={"a": 1})))
    back = hebbcore.load(tmp_path / "network.h5", device="cpu")
    assert (back.layers[0].rule, back.layers[1].table) == (Table(), {"a": 1})


@dataclass(frozen=True)
class Nested(Oja):
    values: object = None
    joined: tuple = ()


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"values": [1, (2, 3)]}, r"values has the tuple \(2, 3\) inside, of which a list comes back"),
        ({"values": {"a": (2, 3)}}, r"values has the tuple \(2, 3\) inside"),
        ({"values": {"a": [{"b": (2, 3)}]}}, r"values has the tuple \(2, 3\) inside"),
        ({"values": ({"a": (2, 3)},)}, r"values has the tuple \(2, 3\) inside"),
        ({"joined": ({"a": (2, 3)},)}, r"joined has the tuple \(2, 3\) inside"),
        (
            {"joined": ((1, 2), [3])},
            r"joined has the list \[3\] inside, of which a tuple comes .* take a tuple there",
        ),
    ],
)
def test_lists_and_tuples_that_would_come_back_as_the_other_are_refused(parameters, told, tmp_path, monkeypatch):
    """They did so without a word."""
    monkeypatch.setitem(hebbcore.RULES, "nested", Nested)
    with pytest.raises(ValueError, match=f"save: Nested.{told}"):
        hebbcore.save(tmp_path / "network.h5", network(Nested(**parameters)))
    for given, back in (
        (Nested([[1], {"a": [2]}], ((1, (2,)), {"a": [3]})), None),
        (Nested(((1, 2), (3, 4)), [[1, 2]]), Nested([[1, 2], [3, 4]], ((1, 2),))),  # which the rule may expect
    ):
        hebbcore.save(tmp_path / "network.h5", network(given))
        assert hebbcore.load(tmp_path / "network.h5", device="cpu").layers[0].rule == (back or given)


Sides = tuple[int, int]


@dataclass(frozen=True)
class Perhaps(Oja):
    """Tuples, in the words that annotations have for one that may be missing."""

    a: Optional[tuple] = None  # noqa: UP045
    b: Optional[tuple[int, ...]] = None  # noqa: UP045
    c: None | tuple[int, ...] = None  # noqa: RUF036
    d: typing.Tuple[int, ...] | None = None  # noqa: UP006
    e: "Sides | None" = None
    f: int | tuple[int, ...] = 0
    g: list[int] | tuple[int, ...] = field(default_factory=list)


@dataclass(frozen=True)
class Hidden(Oja):
    """The same, where annotations stay texts, since one of them names what is not there."""

    a: "Optional[tuple[int, ...]]" = None  # noqa: UP045
    b: "None | tuple" = None  # noqa: RUF036
    c: "typing.Tuple | None" = None  # noqa: UP006
    d: "list[tuple] | None" = None
    other: "NoSuchThing | None" = None  # noqa: F821


@pytest.mark.parametrize("kind", [Perhaps, Hidden])
def test_tuples_that_may_be_missing_come_back_as_tuples(kind, tmp_path, monkeypatch):
    """They came back as lists."""
    monkeypatch.setitem(hebbcore.RULES, "kind", kind)
    more = ([7, 8],) if kind is Hidden else ((7, 8), (9, 10), (11, 12), [13, 14])
    rule = kind((1, 2), (3, 4), (5, 6), *more)
    hebbcore.save(tmp_path / "network.h5", network(rule))
    assert hebbcore.load(tmp_path / "network.h5", device="cpu").layers[0].rule == rule


class Mode(enum.StrEnum):
    SLOW = "slow"
    FAST = "fast"


class Size(NamedTuple):
    height: int
    width: int


@dataclass(frozen=True)
class Plain(Oja):
    value: object = None
    word: str = "fast"
    sides: tuple[int, int] | None = None


@dataclass(frozen=True)
class Made(Oja):
    """A rule that makes of plain values what it wants."""

    mode: Mode = Mode.FAST
    size: Size = (1, 2)

    def __post_init__(self):
        object.__setattr__(self, "mode", Mode(self.mode))
        object.__setattr__(self, "size", Size(*self.size))


@dataclass(eq=False)
class Around(Powers):
    inner: object = None
    more: tuple = ()


def test_values_of_which_something_plain_would_come_back_are_refused(tmp_path, monkeypatch):
    """Members of enumerations came back as texts, named tuples as lists, and layers as dicts."""
    for kind in (Plain, Made):
        monkeypatch.setitem(hebbcore.RULES, kind.__name__.lower(), kind)
    monkeypatch.setitem(hebbcore.LAYERS, "around", Around)
    path = tmp_path / "network.h5"
    for value in (Mode.SLOW, Size(1, 2), [Mode.SLOW], {"a": Mode.SLOW}, OrderedDict(a=1)):
        with pytest.raises(ValueError, match=r"save: Plain\.value has .*, of which something plain comes back where"):
            hebbcore.save(path, network(Plain(value)))
    for parameters in ({"inner": hebbcore.Pool(2)}, {"inner": hebbcore.HPCA()}, {"more": (hebbcore.Pool(2),)}):
        with pytest.raises(ValueError, match=r"save: Around\..* has (Pool|HPCA)\(.*, of which something plain comes"):
            hebbcore.save(path, network("hpca", Around(**parameters)))
    for rule, kinds in (
        (Made(Mode.SLOW, Size(3, 4)), [Mode, Size]),
        (Plain(None, Mode.SLOW, (3, 4)), [type(None), str, tuple]),
    ):
        hebbcore.save(path, network(rule))
        back = hebbcore.load(path, device="cpu").layers[0].rule
        assert back == rule
        assert [type(value) for value in vars(back).values()] == kinds


class Takes(Oja):
    def __init__(self, factor=1.0):
        self.factor = factor


@dataclass(eq=False)
class Times(Powers):
    def __init__(self, factor=1.0, name=""):
        self.factor, self.name = factor, name


def test_a_parameter_that_is_no_field_is_refused(tmp_path, monkeypatch):
    """Files lost it, and what was loaded had the default."""
    monkeypatch.setitem(hebbcore.RULES, "takes", Takes)
    monkeypatch.setitem(hebbcore.LAYERS, "times", Times)
    told = r"takes factor, but no field of the dataclass is called so, .* make factor a field"
    with pytest.raises(ValueError, match=rf"save: Takes.__init__ {told}"):
        hebbcore.save(tmp_path / "layer.h5", hebbcore.train_layer(IMAGES, 4, 3, rule=Takes(0.5), device="cpu"))
    with pytest.raises(ValueError, match=rf"fit: Times.__init__ {told}"):
        hebbcore.fit(network("hpca", Times(3.0)), IMAGES, run=tmp_path / "run")


@dataclass(frozen=True)
class Worded(Oja):
    """A rule for which "none" is a word."""

    scaling: str | None = None
    factor: Optional[float] = 0.5  # noqa: UP045


def test_none_is_a_word_in_files_and_stands_for_none_in_configurations(tmp_path, monkeypatch):
    """The word became None on its way through a file."""
    monkeypatch.setitem(hebbcore.RULES, "worded", Worded)
    for scaling in ("none", None):
        hebbcore.save(tmp_path / "network.h5", network(Worded(scaling)))
        assert hebbcore.load(tmp_path / "network.h5", device="cpu").layers[0].rule.scaling == scaling
    found = rule_of({"name": "worded", "scaling": "none", "factor": "none"}, "network.rule")
    assert (found.scaling, found.factor) == (None, None)
