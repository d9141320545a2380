"""The settings of a training: what they may be, which have an effect, and which may change when it goes on."""

from dataclasses import dataclass, fields
from typing import Any

from hebbcore import checks
from hebbcore.cache import PLACES
from hebbcore.data import BATCH_SIZE
from hebbcore.network import Network
from hebbcore.phases import MODES, SCHEDULES
from hebbcore.rules import Rule, as_rule
from hebbcore.soundness import AUTO, as_rate

LEARNING_RATE = 1e-3  # of layers that have none of their own

FREE = {"cache", "cache_bytes", "checkpoint_minutes", "keep", "log_seconds", "check_finite"}  # may change in a resume


def may_change(training: dict[str, Any]) -> set[str]:
    """Return which settings may change in a resume: epochs too, unless rates or finished layers depend on them."""
    return FREE | ({"epochs"} if training["mode"] == "together" and training["schedule"] == "constant" else set())


def listed(different: list[str]) -> str:
    """Return tables.differences of two trainings as one text, which says why epochs may be among them."""
    why = " (epochs may change in mode together with a constant schedule only: nothing learned depends on them there)"
    return "; ".join(line + why if line.startswith("training.epochs ") else line for line in different)


@dataclass(frozen=True)
class Training:
    """The parameters of fit that decide how a network is trained; see fit."""

    epochs: int = 1
    learning_rate: float | str | None = None
    rate_factor: float = 1.0
    schedule: str = "constant"
    mode: str = "together"
    batch_size: int = BATCH_SIZE
    shuffle: bool = True
    seed: int = 0
    statistics_images: int = 10_000
    cache: str = "none"
    cache_bytes: int | str = "4 GiB"
    checkpoint_minutes: float = 10.0
    keep: int = 3
    log_seconds: float = 5.0
    check_finite: bool = True

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("statistics_images", 1), ("keep", 1)):
            checks.integer("fit", name, getattr(self, name), least)
        for name in ("rate_factor", "checkpoint_minutes"):
            checks.positive("fit", name, getattr(self, name))
        if self.learning_rate is not None:
            as_rate("fit", "learning_rate", self.learning_rate)
        if checks.real("fit", "log_seconds", self.log_seconds) < 0:
            raise ValueError(f"fit: log_seconds must be at least 0, got {self.log_seconds}.")
        for name in ("shuffle", "check_finite"):
            checks.boolean("fit", name, getattr(self, name))
        for name, known in (("schedule", SCHEDULES), ("mode", MODES), ("cache", PLACES)):
            checks.choice("fit", name, getattr(self, name), known)
        checks.byte_size("fit", "cache_bytes", self.cache_bytes)


def require_effect(network: Network, settings: Training, *, shuffled: bool, run: bool) -> None:
    """Raise ValueError for a setting that was given and changes nothing; a bound that is not reached is no such.

    shuffled: fit shuffles the data. run: there is a folder for checkpoints.
    """
    given = {field.name for field in fields(settings) if getattr(settings, field.name) != field.default}
    rates = {name: layer.learning_rate for name, layer in network.learners.items()}
    own = {name: rate for name, rate in rates.items() if rate is not None}
    if settings.learning_rate is not None and rates and len(own) == len(rates):
        listed = ", ".join(f"{name} {rate}" for name, rate in own.items())
        raise ValueError(
            f"fit: learning_rate={settings.learning_rate!r} has no effect, since every layer has a rate of its own "
            f"({listed}); leave it out and multiply all of them by rate_factor, or set network[{next(iter(own))!r}]"
            ".learning_rate."
        )
    for name, layer in network.learners.items():
        rate = settings.learning_rate if layer.learning_rate is None else layer.learning_rate
        if rate == AUTO and type(as_rule("fit", layer.rule)).stable_rate is Rule.stable_rate:
            raise ValueError(
                f'fit: learning_rate="auto" is for rules that say what is stable, such as hpca; give {name} '
                f"({type(layer.rule).__name__}) a learning_rate of its own."
            )
    idle = {
        "cache": settings.mode != "layerwise" and 'it is for mode="layerwise"',
        "seed": not shuffled
        and "it shuffles arrays; a stream has a seed of its own, and Network(seed=…) draws weights",
        "keep": not run and "no checkpoints are written; give run a folder",
        "checkpoint_minutes": not run and "no checkpoints are written; give run a folder",
    }
    for name, reason in idle.items():
        if name in given and reason:
            raise ValueError(f"fit: {name}={getattr(settings, name)!r} has no effect: {reason}.")
