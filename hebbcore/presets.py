"""The networks of the papers, by name."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from hebbcore import checks
from hebbcore.graph import Graph
from hebbcore.layers import BatchNorm, Conv, Dense, Layer, Learner, Pool, Shape, Triangle, Whiten
from hebbcore.layers.branches import with_changes
from hebbcore.network import Network
from hebbcore.rules import Rule, SoftHebb, as_rule

PREPROCESS = ("none", "normalize", "whiten")

Built = tuple[list[Layer], Shape]
Rules = Rule | str | Mapping[str, Rule | str]


def preset(
    name: str,
    *,
    rule: Rules | None = None,
    preprocess: str = "none",
    image_shape: Sequence[int] | None = None,
    **options: Any,
) -> Network:
    """Return a network of the papers, with fresh weights.

    The layers are named conv1, pool1, bn1, …; the classifier of the papers is left to scikit-learn.

    Parameters
    ----------
    name : str
        "fasthebb-6" (32×32×3), "fasthebb-10" (210×210×3), "vgg11", "vgg13", "vgg16", "vgg19" (224×224×3),
        "softhebb-cifar" (32×32×3), "softhebb-stl" (96×96×3), "softhebb-imagenet" (160×160×3), or a key of one's own in
        PRESETS.
    rule : Rule, str, mapping or None
        The rule of all layers that learn, or {"conv1": rule, …} for some of them; None takes HPCA, and SoftHebb in the
        SoftHebb networks. A rule of another kind than the preset's learns by the rate of the training, not by the rates
        that the preset has for its own rule. Where a Triangle follows, it puts out responses of both signs (see Conv's
        linear).
    preprocess : str
        "none"; "normalize" puts a batch norm of the images' channels first; "whiten" puts ZCA whitening of the images
        as a whole first, as FastHebb has it for SWTA and k-WTA (epsilon 0.01).
    image_shape : sequence of int, optional
        (height, width, channels) in pixels; default as above.
    **options
        seed, device, precision and workspace of Network.

    Returns
    -------
    Network
        The network, built.

    Raises
    ------
    ValueError, TypeError
        The name or a rule is unknown, or the images are too small for the layers.

    References
    ----------
    FastHebb (Lagani et al. 2022), whose rates and rules are arguments of the training; SoftHebb (Journé et al., ICLR
    2023), with its rates. In the VGG networks batch norm comes before the pool.
    """
    layers, shape = preset_layers(name, rule, preprocess)
    return network_of(name, layers, shape, image_shape, **options)


def preset_layers(name: str, rule: Rules | None = None, preprocess: str = "none") -> Built:
    """Return the layers of a preset, and the shape of its images; see preset.

    Parameters
    ----------
    name : str
        In PRESETS.
    rule : Rule or str or mapping or None
        See preset.
    preprocess : str
        See preset.

    Returns
    -------
    list of Layer, tuple of int
        The layers, named and without weights, and (height, width, channels).
    """
    checks.choice("preset", "name", name, PRESETS)
    checks.choice("preset", "preprocess", preprocess, PREPROCESS)
    layers, shape = PRESETS[name]()
    if preprocess == "normalize":
        layers = [BatchNorm(name="input"), *layers]
    elif preprocess == "whiten":
        layers = [Whiten(epsilon=0.01, contrast=None, name="input"), *layers]
    Network(layers, device="cpu")  # names them
    return layers if rule is None else with_rules(layers, rule), shape


def with_rules(layers: Sequence[Layer], rule: Rules) -> list[Layer]:
    """Return layers without weights by other rules, as `preset` tells.

    Parameters
    ----------
    layers : sequence of Layer
        Named layers.
    rule : Rule or str or mapping
        The rule of all layers that learn, or of some by name.

    Returns
    -------
    list of Layer
        New learners where the rule is another; the other layers are the same.

    Raises
    ------
    ValueError, TypeError
        For unknown layers and rules, and rules that do not fit a layer.
    """
    learners = [layer.name for layer in Graph(layers).layers if isinstance(layer, Learner)]
    if isinstance(rule, Mapping):
        for key in rule:
            checks.choice("preset", "each layer of rule", key, learners)
        rules = {key: as_rule("preset", value) for key, value in rule.items()}
    else:
        rules = dict.fromkeys(learners, as_rule("preset", rule))
    return with_changes(layers, partial(_with_rules, rules))


def _with_rules(rules: Mapping[str, Rule], layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of a list, none of them inside of branches, by other rules."""
    changed: list[Layer] = []
    for layer, following in pairwise([*layers, None]):
        assert layer is not None
        if isinstance(layer, Learner) and layer.name in rules:
            changes: dict[str, Any] = {"rule": rules[layer.name]}
            if type(layer.rule) is not type(changes["rule"]):
                changes |= {"learning_rate": None, "linear": layer.linear or isinstance(following, Triangle)}
            try:
                layer = dataclasses.replace(layer, **changes)  # type: ignore[type-var]
            except ValueError as error:
                problem = f"{layer.name}: {checks.about(error).text}"
                raise checks.wrong(ValueError, "preset", None, problem) from None
        changed.append(layer)
    return changed


def network_of(
    name: str, layers: Sequence[Layer], shape: Shape, image_shape: Sequence[int] | None, **options: Any
) -> Network:
    """Return the built network of a preset's layers.

    Parameters
    ----------
    name : str
        The preset's, for messages.
    layers : sequence of Layer
        Its layers.
    shape : tuple of int
        The images it is made for.
    image_shape : sequence of int or None
        The images it is built for; None: those.
    **options : Any
        seed, device, precision and workspace of Network.

    Returns
    -------
    Network
        The built network.

    Raises
    ------
    ValueError
        If the images do not fit the layers.
    """
    network = Network(layers, **options)
    try:
        network.build(shape if image_shape is None else image_shape)
    except ValueError as error:
        advice = f"({name} is made for images of {shape}: make larger ones, or a Network of fewer layers.)"
        problem = f"{checks.about(error).text} {advice}"
        raise checks.wrong(ValueError, "Network", None, problem) from None
    return network


def _fasthebb_6() -> Built:
    layers: list[Layer] = [
        Conv(96, 5), Pool(2), BatchNorm(),
        Conv(128, 3), BatchNorm(),
        Conv(192, 3), Pool(2), BatchNorm(modified=True),
        Conv(256, 3), BatchNorm(modified=True),
        Dense(4096), BatchNorm(modified=True),
    ]  # fmt: skip
    return layers, (32, 32, 3)


def _fasthebb_10() -> Built:
    layers: list[Layer] = [
        Conv(96, 7), Pool(3), BatchNorm(),
        Conv(128, 3), BatchNorm(),
        Conv(192, 3), Pool(2), BatchNorm(),
        Conv(192, 3), BatchNorm(),
        Conv(256, 3), Pool(2), BatchNorm(),
        Conv(256, 3), BatchNorm(),
        Conv(384, 3), Pool(2), BatchNorm(modified=True),
        Conv(512, 3), BatchNorm(modified=True),
        Dense(4096), BatchNorm(modified=True),
    ]  # fmt: skip
    return layers, (210, 210, 3)


def _vgg(convolutions: Sequence[int]) -> Callable[[], Built]:
    """Return a builder of five blocks with so many convolutions each."""

    def build() -> Built:
        layers: list[Layer] = []
        for units, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
            for _ in range(count):
                layers += [Conv(units, 3, padding=1), BatchNorm()]
            layers.append(Pool(2))
        return [*layers, Dense(4096), BatchNorm(modified=True)], (224, 224, 3)

    return build


def _softhebb(
    units: Sequence[int],
    sharpness: Sequence[float],
    rates: Sequence[float],
    adaptive_power: float,
    triangles: Sequence[float],
    pools: Sequence[str],
    size: int,
) -> Callable[[], Built]:
    def build() -> Built:
        layers: list[Layer] = []
        for i in range(len(units)):
            kernel = 5 if i == 0 else 3
            learner = SoftHebb(temperature=1 / sharpness[i], adaptive_power=adaptive_power)
            layers += [
                BatchNorm(),
                Conv(units[i], kernel, learner, padding=kernel // 2, padding_mode="reflect", learning_rate=rates[i]),
                Triangle(triangles[i]),
                Pool(4, 2, 1, pools[i]) if i < len(units) - 1 else Pool(2, kind="average"),
            ]
        return layers, (size, size, 3)

    return build


PRESETS: dict[str, Callable[[], Built]] = {
    "fasthebb-6": _fasthebb_6,
    "fasthebb-10": _fasthebb_10,
    "vgg11": _vgg((1, 1, 2, 2, 2)),
    "vgg13": _vgg((2, 2, 2, 2, 2)),
    "vgg16": _vgg((2, 2, 3, 3, 3)),
    "vgg19": _vgg((2, 2, 4, 4, 4)),
    "softhebb-cifar": _softhebb(
        (96, 384, 1536), (1, 0.65, 0.25), (0.08, 0.005, 0.01), 0.5, (0.7, 1.4, 1), ("max", "max"), 32
    ),
    "softhebb-stl": _softhebb(
        (96, 384, 1536, 6144), (1, 0.65, 0.45, 0.25), (0.08, 0.005, 0.01, 0.01), 0.5, (0.7, 0.7, 1.4, 1),
        ("average", "max", "average"), 96,
    ),
    "softhebb-imagenet": _softhebb(
        (48, 192, 768, 3072, 12288), (1.1, 0.7, 0.5, 0.4, 0.25), (0.08, 0.01, 0.01, 0.01, 0.01), 0.75,
        (0.7, 0.7, 0.7, 1.4, 1), ("max", "max", "max", "max"), 160,
    ),
}  # fmt: skip
