"""Names of the layers of a network."""

from collections.abc import Sequence
from typing import Any

from hebbcore import checks
from hebbcore.layers.base import Layer, puts_out_as
from hebbcore.layers.learner import Learner


def _is_frozen(layer: Layer) -> bool:
    made: Any = getattr(type(layer), "__dataclass_params__", None)
    return made is not None and made.frozen is True


def name_layers(function: str, layers: Sequence[Layer]) -> list[str]:
    """Give the layers without a name one, and return all names."""
    if frozen := next((type(layer).__name__ for layer in layers if _is_frozen(layer)), None):
        problem = f"must not be frozen: put @dataclass(eq=False) before {frozen}."
        raise checks.wrong(TypeError, function, "layers", problem)
    if own := next((layer for layer in layers if isinstance(layer, Learner) and not puts_out_as(layer, Learner)), None):
        problem = (
            f"must not be learners with a forward of their own, as {type(own).__name__}: units that learn put out what "
            "their rule says; put a layer of your own behind a Conv or Dense, or give its rule an activate."
        )
        raise checks.wrong(TypeError, function, "layers", problem)
    if nameless := next((type(layer).__name__ for layer in layers if not hasattr(layer, "name")), None):
        raise checks.wrong(TypeError, function, "layers", f'must have a field name: str = "", which {nameless} lacks.')
    taken: set[str] = set()
    for name in (layer.name for layer in layers if layer.name):
        if not isinstance(name, str) or not name.replace("-", "_").isidentifier():
            problem = f"must be letters, digits, - and _, got {name!r}."
            raise checks.wrong(ValueError, function, "a layer's name", problem)
        if name in taken:
            raise checks.wrong(ValueError, function, None, f"two layers are named {name!r}; names must differ.")
        taken.add(name)
    learners, latest = 0, dict[str, int]()
    for layer in layers:
        learners += isinstance(layer, Learner)
        prefix = layer.prefix or type(layer).__name__.lower()
        if not layer.name:
            number = max(1, learners, latest.get(prefix, 0) + 1)
            while f"{prefix}{number}" in taken:
                number += 1
            layer.name, latest[prefix] = f"{prefix}{number}", number
            taken.add(layer.name)  # a layer of one's own may be called like another's name
    return [layer.name for layer in layers]
