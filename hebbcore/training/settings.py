"""The settings of a training: what they may be, which have an effect, and which may change when it goes on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hebbcore import checks
from hebbcore.engine.soundness import AUTO, as_rate
from hebbcore.layers import BatchNorm, Scale
from hebbcore.network import Network
from hebbcore.rules import Rule, as_rule
from hebbcore.training.batches import BATCH_SIZE
from hebbcore.training.cache import CACHES
from hebbcore.training.phases import MODES, SCHEDULES, phases_of
from hebbcore.training.teacher import Teacher, check_teacher, require_taught

LEARNING_RATE = 1e-3  # of layers that have none of their own
NO_SAMPLE = "none"  # as fit's sample: of all patches, whatever the network says

FREE = {"cache", "cache_bytes", "checkpoint_minutes", "keep", "log_seconds", "check_finite"}  # may change in a resume


def meant(training: Mapping[str, Any], mode: str | None, sample: Any = None) -> dict[str, Any]:
    """Return how a network is meant to be trained, see Network.training, in a mode; None: in the one that it says.

    sample: what fit was given.
    """
    left_out = {"sample"} if mode == "together" or sample == NO_SAMPLE else set()  # it is of a training layer by layer
    return {key: value for key, value in training.items() if key not in left_out}


def may_change(training: dict[str, Any]) -> set[str]:
    """Return which settings may change in a resume: epochs too, unless rates or finished layers depend on them; and a
    schedule that lowers no rate, which trainings from before may have."""
    free = set(FREE)
    if training["mode"] == "together" and training["schedule"] == "constant":
        free.add("epochs")
    if training["mode"] == "layerwise" and training.get("sample") is not None and training["epochs"] == 1:
        free.add("schedule")
    return free


def listed(different: list[str]) -> str:
    """Return the differences of two trainings as one text, which says why epochs may be among them."""
    why = " (epochs may change in mode together with a constant schedule only: nothing learned depends on them there)"
    return "; ".join(line + why if line.startswith("training.epochs ") else line for line in different)


@dataclass(frozen=True)
class Training:
    """The settings of a training, each as the parameter of fit of the same name.

    A setting that comes later needs a default, by which trainings from before go on.

    Raises
    ------
    ValueError, TypeError
        For impossible values.
    """

    epochs: int = 1
    learning_rate: float | str | None = None
    rate_factor: float = 1.0
    schedule: str = "constant"
    mode: str = "together"
    batch_size: int = BATCH_SIZE
    shuffle: bool = True
    seed: int = 0
    statistics_images: int = 10_000
    sample: int | None = None
    cache: str = "none"
    cache_bytes: int | str = "4 GiB"
    checkpoint_minutes: float = 10.0
    keep: int = 3
    log_seconds: float = 5.0
    check_finite: bool = True
    teacher: Teacher | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("statistics_images", 1), ("keep", 1)):
            checks.integer("fit", name, getattr(self, name), least)
        if self.sample is not None:
            checks.integer("fit", "sample", self.sample, 1)
        for name in ("rate_factor", "checkpoint_minutes"):
            checks.positive("fit", name, getattr(self, name))
        if self.learning_rate is not None:
            as_rate("fit", "learning_rate", self.learning_rate)
        checks.real("fit", "log_seconds", self.log_seconds, 0)
        for name in ("shuffle", "check_finite"):
            checks.boolean("fit", name, getattr(self, name))
        for name, known in (("schedule", SCHEDULES), ("mode", MODES), ("cache", CACHES)):
            checks.choice("fit", name, getattr(self, name), known)
        checks.byte_size("fit", "cache_bytes", self.cache_bytes)
        check_teacher("fit", self.teacher, self.classes)


def without_effect(settings: Training, network: Network, done: Collection[int] = ()) -> tuple[str, str] | None:
    """Return which setting, if any, changes nothing for this network, and a text that begins with it and says what to
    do; a default never counts.

    network: with weights or without. done: layers, by index, that do not observe any more.
    """
    default = Training()
    learners = network.learners
    own = {name: layer.learning_rate for name, layer in learners.items() if layer.learning_rate is not None}
    if settings.learning_rate is not None and learners and len(own) == len(learners):
        first = next(iter(own))
        listed = ", ".join(f"{name} {rate}" for name, rate in own.items())
        return "learning_rate", (
            f"learning_rate={settings.learning_rate!r} has no effect, since every layer has a rate of its own"
            f" ({listed}); leave it out and multiply all of them by rate_factor, or set that of a layer: "
            f"network[{first!r}].learning_rate, network.layers.{first}.learning_rate in a configuration."
        )
    if settings.sample is not None and settings.mode == "together":
        text = f'sample={settings.sample} has no effect: it is for mode="layerwise"; leave it out, or change mode.'
        return "sample", text
    if settings.sample is not None and settings.cache != "none":
        return "cache", (
            f"cache={settings.cache!r} has no effect with sample={settings.sample}: a layer's sample is gathered in "
            "one pass and kept; leave it out."
        )
    if settings.cache != "none" and settings.mode == "together":
        text = f'cache={settings.cache!r} has no effect: it is for mode="layerwise"; leave it out, or change mode.'
        return "cache", text
    if settings.cache != "none":
        phases = phases_of("fit", network, settings.mode, settings.epochs, settings.statistics_images, done)
        if not any(network.graph.entries[target] for phase in phases for target in phase.targets):
            return "cache", (
                f"cache={settings.cache!r} has no effect: it keeps outputs of finished layers, and what learns here "
                "sees the images themselves; leave it out."
            )
    if settings.cache == "none" and settings.cache_bytes != default.cache_bytes:
        text = 'cache_bytes has no effect: it bounds a cache, and cache is "none"; set cache, or leave it out.'
        return "cache_bytes", text
    usual = default.statistics_images, network.training.get("statistics_images")
    if settings.statistics_images not in usual and settings.sample is None:
        phases = phases_of("fit", network, settings.mode, settings.epochs, settings.statistics_images, done)
        if not any(phase.observes for phase in phases):
            why = "what this one whitens by is learned already, and stays" if done else "this network has none"
            return "statistics_images", (
                "statistics_images has no effect: it is for layers with a pass of their own, Whiten and (layer by "
                f"layer) BatchNorm, and for a sample; {why}; leave it out."
            )
    if settings.schedule != "constant" and settings.sample is not None and settings.epochs == 1:
        return "schedule", (
            f"schedule={settings.schedule!r} has no effect with sample and one epoch: an epoch is one step from the "
            "whole sample, and the first has the whole rate; leave it out, or take more epochs."
        )
    if settings.schedule == "epochs" and settings.epochs == 1:
        return "schedule", (
            'schedule="epochs" has no effect: it lowers the rates after each epoch, and there is one; take "linear" or '
            '"cosine", or more epochs.'
        )
    return None


def idle_parameter(network: Network, mode: str) -> tuple[str, str, str] | None:
    """Return which parameter of which layer, if any, changes nothing in a training, and a text that says why.

    The text follows the parameter's name. network: with weights or without.
    """
    for layer in network.layers:
        if mode == "layerwise" and isinstance(layer, BatchNorm | Scale) and layer.momentum != type(layer).momentum:
            text = (
                f"={layer.momentum} has no effect layer by layer, where the statistics are those of a pass of their "
                f"own; leave it out (in Python network[{layer.name!r}].momentum = {type(layer).momentum} does so)."
            )
            return layer.name, "momentum", text
    return None


def require_effect(
    network: Network, settings: Training, *, shuffled: bool, run: bool, heard: bool, done: Collection[int] = ()
) -> None:
    """Raise ValueError for a setting of fit that was given and changes nothing, or that a rule cannot take.

    Parameters
    ----------
    network : Network
        With weights or without.
    settings : Training
        What was given.
    shuffled : bool
        Whether fit shuffles the data.
    run : bool
        Whether there is a folder for checkpoints.
    heard : bool
        Whether anybody gets records.
    done : collection of int
        Layers, by index, that do not observe any more.
    """
    idle = without_effect(settings, network, done)
    if idle is not None:
        raise ValueError(f"fit: {idle[1]}")
    parameter = idle_parameter(network, settings.mode)
    if parameter is not None:
        name, key, text = parameter
        raise ValueError(f"fit: {name}.{key}{text}")
    require_taught(network, settings.teacher, settings.classes)
    for name, layer in network.learners.items():
        rate = settings.learning_rate if layer.learning_rate is None else layer.learning_rate
        if rate == AUTO and type(as_rule("fit", layer.rule)).stable_rate is Rule.stable_rate:
            raise ValueError(
                f'fit: learning_rate="auto" is for rules that say what is stable, such as hpca; give {name} '
                f"({type(layer.rule).__name__}) a learning_rate of its own."
            )
    default = Training()
    if settings.seed != default.seed and not shuffled and settings.sample is None:
        raise ValueError(
            f"fit: seed={settings.seed} has no effect: it shuffles arrays; a stream has a seed of its own, and "
            "Network(seed=…) draws weights."
        )
    for name in ("keep", "checkpoint_minutes"):
        if getattr(settings, name) != getattr(default, name) and not run:
            raise ValueError(
                f"fit: {name}={getattr(settings, name)!r} has no effect: no checkpoints are written; give run a folder."
            )
    if settings.log_seconds != default.log_seconds and not heard:
        raise ValueError(
            f"fit: log_seconds={settings.log_seconds!r} has no effect: it is the time between records, which nobody "
            "gets; give callback or run, or leave it out."
        )
