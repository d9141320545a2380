"""The network of a configuration: a preset, perhaps with changes, or layers one by one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hebbcore import checks, serialize
from hebbcore.graph import Graph
from hebbcore.layers import Layer, Learner
from hebbcore.layers.branches import with_changes
from hebbcore.presets import PREPROCESS, PRESETS, Built, Rules, as_units, preset_layers, with_rules
from hebbcore.rules import Rule


@dataclass(frozen=True)
class Architecture:
    """A preset, perhaps with changes to its layers, or layers.

    Parameters
    ----------
    preset : str or None
        Name of a preset; see hebbcore.preset.
    rule : str, dict or None
        With a preset: the rule of all its layers, or rules by the names of layers.
    preprocess : str
        With a preset: see hebbcore.preset.
    layers : list, dict or None
        A table for each layer; with a preset, tables of what is to be changed, by the names of layers.
    image_shape : list of int or None
        [height, width, channels] or [features]; None takes that of the preset, or of the data.
    units : list of int or None
        With the preset "dictionary": see hebbcore.preset.
    classes : int or None
        With a preset: see hebbcore.preset.

    Raises
    ------
    ValueError, TypeError
        A value is impossible, or values do not go together.
    """

    preset: str | None = None
    rule: Any = None
    preprocess: str = "none"
    layers: list[Any] | dict[str, Any] | None = None
    image_shape: list[int] | None = None
    units: list[int] | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        changes = isinstance(self.layers, dict)
        if self.preset is None and changes:
            raise _wrong("layers", "by name are changes to those of a preset; give preset, or [[network.layers]].")
        if (self.preset is None) == (self.layers is None or changes):
            raise _wrong(None, "give preset or layers, one of the two.")
        if self.preset is not None:
            _check_preset(self.preset)
        if self.rule is not None and self.preset is None:
            raise _wrong("rule", "goes with a preset; layers have rules of their own.")
        checks.choice("Architecture", "preprocess", self.preprocess, PREPROCESS)
        if self.preprocess != "none" and self.preset is None:
            raise _wrong("preprocess", "goes with a preset; put a BatchNorm or Whiten before the layers.")
        if self.units is not None and self.preset is None:
            raise _wrong("units", "goes with a preset; layers have units of their own.")
        if self.preset is not None:
            as_units("Architecture", self.preset, self.units)
        if self.classes is not None:
            checks.integer("Architecture", "classes", self.classes, 1)
            if self.preset is None:
                raise _wrong("classes", 'goes with a preset; end the layers with a dense one of the rule "supervised".')
        if self.layers is not None and not isinstance(self.layers, list | dict):
            raise checks.wrong(
                TypeError, "Architecture", "layers", f"must be tables, [[network.layers]], got {self.layers!r}."
            )
        if self.image_shape is not None:
            if not isinstance(self.image_shape, list | tuple) or len(self.image_shape) not in (1, 3):
                raise _wrong("image_shape", f"must be [height, width, channels], got {self.image_shape!r}.")
            for side in self.image_shape:
                checks.integer("Architecture", "image_shape", side, 1)

    def require_rule_in_use(self, learners: list[str]) -> None:
        """Raise ValueError if layers have rules of their own in place of those of `rule`. learners: of the preset."""
        changes = self.layers if isinstance(self.layers, dict) else {}
        own = [name for name in learners if "rule" in changes.get(name, {}) and not _is_nameless(changes[name]["rule"])]
        if _is_nameless(self.rule):
            for name in own:
                if name in self.rule:
                    raise ValueError(
                        f"config: network.rule.{name} changes nothing: network.layers.{name} gives the layer another "
                        "rule; leave one of them out."
                    )
        elif self.rule is not None and len(own) == len(learners):
            raise ValueError("config: network.rule changes nothing: network.layers gives every layer its own.")

    def make_layers(self) -> tuple[list[Layer], tuple[int, ...] | None]:
        """Return the layers, without weights, and the shape of a preset's images."""
        if self.preset is not None:
            return _preset_layers(self)
        assert isinstance(self.layers, list)
        return serialize.layers_of(self.layers, "network.layers"), None


def _check_preset(name: Any) -> None:
    try:
        checks.choice("Architecture", "preset", name, PRESETS)
    except ValueError as error:
        raise _wrong("preset", f"{checks.about(error).problem} {serialize.OF_ONES_OWN}") from None


def _wrong(argument: str | None, problem: str) -> ValueError:
    return checks.wrong(ValueError, "Architecture", argument, problem)


@contextmanager
def naming_network() -> Iterator[None]:
    """Raise what a network or a preset says of its layers as an error of the configuration's network."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise checks.again(error, f"config: network: {checks.about(error).text}") from None


def _preset_layers(given: Architecture) -> Built:
    """Return the layers of a preset with the changes to them, and the shape of its images."""
    assert given.preset is not None
    with naming_network():
        layers, shape = preset_layers(
            given.preset, None, given.preprocess, given.image_shape, given.units, given.classes
        )
    if given.rule is not None:
        rules = _rules(given.rule, [layer.name for layer in Graph(layers).layers if isinstance(layer, Learner)])
        with naming_network():
            layers = with_rules(layers, rules)
    names = [layer.name for layer in Graph(layers).layers]
    assert given.layers is None or isinstance(given.layers, dict)
    for name, change in (given.layers or {}).items():
        if name not in names:
            raise ValueError(f"config: network.layers.{name} is unknown.{serialize.hint(name, names)}")
        layers = _changed(layers, name, change)
    return layers, shape


def _is_nameless(rule: Any) -> bool:
    """Return True for a table that names no rule: of rules by layer name, and for a layer of parameters of its rule."""
    return isinstance(rule, Mapping) and "name" not in rule


def _rules(rule: Any, learners: list[str]) -> Rules:
    """Return the rule, or the rules by layer name, that a configuration describes."""
    if not _is_nameless(rule):
        return serialize.rule_of(rule, "network.rule")
    for key in rule:
        if key not in learners:
            raise ValueError(
                f"config: network.rule.{key} is unknown; a rule is its name, a table with name = …, or rules by layer "
                f"name.{serialize.hint(str(key), learners)}"
            )
    return {key: serialize.rule_of(value, f"network.rule.{key}") for key, value in rule.items()}


def _named(layers: list[Layer], name: str) -> Layer:
    return next(layer for layer in Graph(layers).layers if layer.name == name)


def _changed(layers: list[Layer], name: str, change: Any) -> list[Layer]:
    """Return a preset's layers with changes to one of them. A rule without a name changes parameters only."""
    layer, path = _named(layers, name), f"network.layers.{name}"
    if not isinstance(change, Mapping):
        raise TypeError(f"config: {path} must be a table of what is to be changed, got {change!r}.")
    for key in ("type", "name"):
        if key in change:
            raise ValueError(f"config: {path}.{key} cannot be changed; print the preset (hebbcore preset) and edit it.")
    rest = dict(change)
    if "rule" in rest and isinstance(layer, Learner):
        rule = rest.pop("rule")
        if _is_nameless(rule):
            assert isinstance(layer.rule, Rule)
            rule = {**serialize.rule_table("config", layer.rule), **rule}
        rules = {layer.name: serialize.rule_of(rule, f"{path}.rule")}
        with naming_network():
            layers = with_rules(layers, rules)
        layer = _named(layers, name)
    changed = serialize.layer_of({**serialize.layer_table("config", layer), **rest}, path)
    return with_changes(layers, lambda some: [changed if layer.name == name else layer for layer in some])
