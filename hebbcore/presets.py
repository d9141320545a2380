"""Networks by name: those of the papers, and the dictionary."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from hebbcore import checks
from hebbcore.dictionary import UNITS, dictionary
from hebbcore.dictionary import training as of_the_dictionary
from hebbcore.graph import Graph
from hebbcore.layers import BatchNorm, Conv, Dense, Layer, Learner, Pool, Shape, Triangle, Whiten
from hebbcore.layers.branches import with_changes
from hebbcore.network import Network
from hebbcore.rules import Rule, SoftHebb, Supervised, as_rule

PREPROCESS = ("none", "normalize", "whiten")

Built = tuple[list[Layer], Shape]
Rules = Rule | str | Mapping[str, Rule | str]


def preset(
    name: str,
    *,
    rule: Rules | None = None,
    preprocess: str = "none",
    image_shape: Sequence[int] | None = None,
    units: Sequence[int] | None = None,
    classes: int | None = None,
    **options: Any,
) -> Network:
    """Return a network of the papers, or the dictionary, with fresh weights.

    The layers are named conv1, pool1, bn1, …; the classifier of the papers is left to scikit-learn, or one of class
    means is put on top (classes).

    "dictionary" is this library's own network for features of images of any size, and `fit` trains it without further
    arguments as its `training` says. Its deep branch learns 3×3 patches of whitened pixels, then of their codes, then
    of the codes of these; its wide branch 6×6 patches. The codes of layers 2 and 3 and of the wide branch are pooled to
    the same 3×3 cells and concatenated. Output: (3, 3, twice the units of these layers). See Notes.

    Parameters
    ----------
    name : str
        "dictionary" (32×32×3, and any other), "fasthebb-6" (32×32×3), "fasthebb-10" (210×210×3), "vgg11", "vgg13",
        "vgg16", "vgg19" (224×224×3), "softhebb-cifar" (32×32×3), "softhebb-stl" (96×96×3), "softhebb-imagenet"
        (160×160×3), or a key of one's own in PRESETS.
    rule : Rule, str, mapping or None
        The rule of all layers that learn, or {"conv1": rule, …} for some of them; None takes HPCA, SoftHebb in the
        SoftHebb networks, and k-WTA and signed WTA by matching pursuit in the dictionary. A rule of another kind than
        the preset's learns by the rate of the training, not by the rates that the preset has for its own rule. Where a
        Triangle follows, it puts out responses of both signs (see Conv's linear); what the dictionary's layers put out
        stays (see Conv's response).
    preprocess : str
        "none"; "normalize" puts a batch norm of the images' channels first; "whiten" puts ZCA whitening of the images
        as a whole first, as FastHebb has it for SWTA and k-WTA (epsilon 0.01). The dictionary, which whitens patches
        itself, takes "none" alone.
    image_shape : sequence of int, optional
        (height, width, channels) in pixels; default as above. The dictionary takes any sides of at least 8 pixels.
    units : sequence of int, optional
        Of the dictionary alone: the units of layers 1, 2 and 3 of its deep branch, and of its wide branch; three
        numbers: without layer 3. None: (128, 512, 512, 200).
    classes : int, optional
        Put a layer "classifier" on top, Dense(classes, Supervised()), which learns from labels and classifies (see
        Network.predict).
    **options
        seed, device, precision and workspace of Network.

    Returns
    -------
    Network
        The network, built.

    Raises
    ------
    ValueError, TypeError
        The name or a rule is unknown, the images are too small for the layers, or units or preprocess do not go with
        the preset.

    Notes
    -----
    What the dictionary derives from image_shape (sides H and W):

    - Images are first reduced by averages of about r×r pixels, r = 2⌊√(H·W) / 96⌋, so that 96 pixels become 48, 224
      become 56, and 64 or 95 stay. r is at least 1, and so small that 8 pixels remain along the shorter side.
    - Where r is more than 1, half of layer 1's units see images with twice as many pixels a side, for fine textures;
      the maps of both halves are pooled to the same size and concatenated. Work and memory an image are bounded.
    - Patches of layer 1 have 3×3 pixels where √(H·W) of the reduced image is below 48, and 5×5 from there on.
    - The pool behind layer 1 has a stride of √(H·W) / 16, rounded, of the reduced image, so that the maps of layer 2,
      which costs most, have about 16×16 pixels; it is small enough for maps of 5 pixels a side.
    - The kernel of the wide branch is 6, or the side minus 4 where that is less.
    - The strides of the last pools are a third of the map's side, rounded up: 3×3 cells cover the image, whatever its
      size and proportions.
    - Layer 3 sees layer 2's codes pooled with a stride of 2, or 1 where 2 would leave four pixels along a side.
    - Layers 2 and 3 see 192 principal components of their patches, or as many as the patches have numbers; layer 3's
      patches are of 128 principal components of layer 2's codes.

    References
    ----------
    FastHebb (Lagani et al. 2022), whose rates and rules are arguments of the training; SoftHebb (Journé et al., ICLR
    2023), with its rates. In the VGG networks batch norm comes before the pool.
    """
    units = as_units("preset", name, units)
    layers, shape = preset_layers(name, rule, preprocess, image_shape, units, classes)
    return network_of(name, layers, shape, image_shape, units, **options)


def preset_layers(
    name: str,
    rule: Rules | None = None,
    preprocess: str = "none",
    image_shape: Sequence[int] | None = None,
    units: Sequence[int] | None = None,
    classes: int | None = None,
) -> Built:
    """Return the layers of a preset, and the shape of its images; see preset.

    Parameters
    ----------
    name : str
        In PRESETS.
    rule : Rule or str or mapping or None
        See preset.
    preprocess : str
        See preset.
    image_shape : sequence of int or None
        Of the images that layers are derived from, in a preset that derives them.
    units : sequence of int or None
        See preset.
    classes : int or None
        See preset.

    Returns
    -------
    list of Layer, tuple of int
        The layers, named and without weights, and (height, width, channels).
    """
    checks.choice("preset", "name", name, PRESETS)
    checks.choice("preset", "preprocess", preprocess, PREPROCESS)
    units = as_units("preset", name, units)
    if name == DERIVED and preprocess != "none":
        problem = f'must be "none" for {name!r}, which whitens patches itself, got {preprocess!r}.'
        raise checks.wrong(ValueError, "preset", "preprocess", problem)
    derived = {"image_shape": image_shape, "units": units} if name == DERIVED else {}
    made: Any = PRESETS[name](**{key: value for key, value in derived.items() if value is not None})
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"preset: {name} must return (layers, image_shape), a list and a tuple, got {made!r}.")
    layers, shape = made
    if preprocess == "normalize":
        layers = [BatchNorm(name="input"), *layers]
    elif preprocess == "whiten":
        layers = [Whiten(epsilon=0.01, contrast=None, name="input"), *layers]
    if classes is not None:
        rate = None if name != DERIVED else 1.0  # its layers learn a sample as a whole, by few steps
        checks.integer("preset", "classes", classes, 1)
        layers = [*layers, Dense(classes, Supervised(), learning_rate=rate, name="classifier")]
    Network(layers, device="cpu")  # names them
    return layers if rule is None else with_rules(layers, rule), shape


def as_units(function: str, name: str, units: Any) -> tuple[int, ...] | None:
    """Return the numbers of units of a preset.

    Parameters
    ----------
    function : str
        Who asks, for messages.
    name : str
        The preset's.
    units : Any
        What was given; None: nothing.

    Returns
    -------
    tuple of int or None
        The numbers; None: nothing was given.

    Raises
    ------
    ValueError, TypeError
        If the preset takes no units, and unless they are as many as it has and at least 1.
    """
    if units is None:
        return None
    if name != DERIVED:
        problem = f"is for {DERIVED!r} alone, not for {name!r}; make a Network of its layers with other units."
        raise checks.wrong(ValueError, function, "units", problem)
    numbers = checks.sequence(units)
    if numbers is None or len(numbers) not in (3, 4):
        problem = f"must be four numbers (layers 1, 2 and 3, wide branch) such as {UNITS}, or three, without layer 3, "
        raise checks.wrong(ValueError, function, "units", f"{problem}got {units!r}.")
    return tuple(checks.integer(function, "units", number, 1) for number in numbers)


def with_rules(layers: Sequence[Layer], rule: Rules) -> list[Layer]:
    """Return layers without weights by other rules, as `preset` tells.

    Parameters
    ----------
    layers : sequence of Layer
        Named layers.
    rule : Rule or str or mapping
        The rule of all layers that learn without labels, or of some by name.

    Returns
    -------
    list of Layer
        New learners where the rule is another; the other layers are the same.

    Raises
    ------
    ValueError, TypeError
        For unknown layers and rules, and rules that do not fit a layer.
    """
    found = [layer for layer in Graph(layers).layers if isinstance(layer, Learner)]
    learners = [layer.name for layer in found if not as_rule("preset", layer.rule).supervised]
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
    name: str,
    layers: Sequence[Layer],
    shape: Shape,
    image_shape: Sequence[int] | None,
    units: Sequence[int] | None = None,
    **options: Any,
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
    units : sequence of int or None
        See preset.
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
        if name == DERIVED:
            advice = f"({name} has its kernels: take fewer units, or images smaller or of fewer channels than {shape}.)"
        problem = f"{checks.about(error).text} {advice}"
        raise checks.wrong(ValueError, "Network", None, problem) from None
    network.training = training_of(name, units)
    return network


def training_of(name: str, units: Sequence[int] | None = None) -> dict[str, Any]:
    """Return how a preset is meant to be trained; see Network.training.

    Parameters
    ----------
    name : str
        The preset's.
    units : sequence of int or None
        See preset.

    Returns
    -------
    dict
        Arguments of fit; empty, unless it is the dictionary.
    """
    if name != DERIVED:
        return {}
    return of_the_dictionary() if units is None else of_the_dictionary(units)


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


DERIVED = "dictionary"  # whose layers are derived from the images and from numbers of units

PRESETS: dict[str, Callable[..., Built]] = {
    DERIVED: dictionary,
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
