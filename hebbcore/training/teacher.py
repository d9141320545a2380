"""What labels say to the layers of a network: which units may learn from which image."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from hebbcore import checks, streams
from hebbcore.engine import devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.rules import RULES, Rule, as_rule
from hebbcore.training.batch import Labels

Teacher = Mapping[str, int] | str  # how many units of each layer are taught, or whose they are: a key of TEACHERS

TEACHERS: dict[str, dict[str, int]] = {  # the deep teachers of the papers, by preset
    "fasthebb-6": {"conv2": 80, "conv3": 160, "conv4": 240, "fc5": 4096},
}


def require_teachable(function: str, what: str, rule: Rule) -> None:
    """Raise ValueError if a rule takes no teacher; what: whose rule it is."""
    if rule.takes_teacher:
        return
    known = ", ".join(name for name, kind in RULES.items() if kind().takes_teacher)
    raise checks.wrong(
        ValueError, function, "teacher",
        f"is for rules that define taught_gate ({known}), and {type(rule).__name__}{what} does not; leave it out, or "
        "take another rule.",
    )  # fmt: skip


def check_teacher(function: str, teacher: Any, classes: Any) -> None:
    """Raise ValueError or TypeError for a teacher, or a number of classes, that can be none; None: there is none."""
    if classes is not None:
        checks.integer(function, "classes", classes, 1)
    if teacher is None:
        return
    if isinstance(teacher, str):
        checks.choice(function, "teacher", teacher, TEACHERS)
        return
    if not isinstance(teacher, Mapping):
        known = ", ".join(map(repr, TEACHERS))
        came = type(teacher).__name__
        problem = f"must be {{layer: units}} or one of {known}, got {came}; masks are for weight_update."
        raise checks.wrong(TypeError, function, "teacher", problem)
    if not teacher:
        raise checks.wrong(ValueError, function, "teacher", "names no layer; leave it out, or name one.")
    for name, units in teacher.items():
        checks.integer(function, f"teacher.{name}", units, 1)


def taught_units(teacher: Teacher | None) -> dict[str, int]:
    """Return how many units of which layers a teacher speaks to."""
    if teacher is None:
        return {}
    return dict(TEACHERS[teacher] if isinstance(teacher, str) else teacher)


def require_taught(network: Network, teacher: Teacher | None, classes: int | None) -> None:
    """Raise ValueError unless the layers that a teacher names can be taught.

    network: with weights or without.
    """

    def refuse(name: str, problem: str) -> NoReturn:
        raise checks.wrong(ValueError, "fit", "teacher", f"names {name}, {problem}")

    learners = network.learners
    own = {name: layer.units for name, layer in _supervised(network).items()}
    most = min(own.values(), default=None) if classes is None else classes
    for name, units in taught_units(teacher).items():
        if name not in learners:
            refuse(name, f"which is no layer that learns: those are {', '.join(learners)}.")
        layer, rule = learners[name], as_rule("fit", learners[name].rule)
        if rule.supervised:
            refuse(name, "whose rule learns from labels without one; leave it out.")
        require_teachable("fit", f" of {name}", rule)
        if layer.conscience or layer.revival:
            refuse(name, "whose conscience or revival counts wins that a teacher forbids; leave one of them out.")
        if units > layer.units:
            refuse(name, f"which has {layer.units} units, not {units}.")
        if most is not None and units < most:
            refuse(name, f"of which {units} units are fewer than the {most} classes; give more.")
    if classes is not None and not teacher:
        problem = "has no effect: it is for a teacher, and a supervised layer has as many units; leave it out."
        raise checks.wrong(ValueError, "fit", "classes", problem)
    if classes is not None and own and set(own.values()) != {classes}:
        listed = ", ".join(f"{name} has {units} units" for name, units in own.items())
        raise checks.wrong(ValueError, "fit", "classes", f"is {classes}, but {listed}; leave it out.")


def _supervised(network: Network) -> dict[str, Learner]:
    return {name: layer for name, layer in network.learners.items() if as_rule("fit", layer.rule).supervised}


def who_needs_labels(network: Network, teacher: Teacher | None) -> str:
    """Return what of a network learns from labels, for messages; "": nothing does."""
    return next(iter(_supervised(network)), "the teacher" if teacher else "")


@dataclass(frozen=True)
class Teaching:
    """Which units of which layers may learn from images of which labels.

    Attributes
    ----------
    classes : int
        Labels are below it.
    units : dict of int to numpy.ndarray
        By index of the layer, the class (K,) that each unit stands for; -1: it may learn from all images.
    supervised : frozenset of int
        Layers that learn nothing from an image without a label; others learn from it as if there were no teacher.
    """

    classes: int = 0
    units: dict[int, Labels] = field(default_factory=dict)
    supervised: frozenset[int] = frozenset()

    @classmethod
    def of(cls, network: Network, teacher: Teacher | None, classes: int | None, data: Any, labels: Any) -> "Teaching":
        """Return what a teacher says; the number of classes is given, or that of a supervised layer, or the data's.

        Raises ValueError if it is not known, or if there are too many for a layer's units.
        """
        own, taught = _supervised(network), taught_units(teacher)
        if not own and not taught:
            return cls()
        most = classes or min((layer.units for layer in own.values()), default=0) or _classes_of(data, labels)
        units = {network.names.index(name): np.arange(layer.units) for name, layer in own.items()}
        for name, count in taught.items():
            if count < most:
                problem = f"names {name}, of which {count} units are fewer than the {most} classes; give more."
                raise checks.wrong(ValueError, "fit", "teacher", problem)
            stand = np.repeat(np.arange(most), count // most)
            free = np.full(network.learners[name].units - len(stand), -1)
            units[network.names.index(name)] = np.concatenate([free, stand])
        return cls(most, units, frozenset(map(network.names.index, own)))

    @classmethod
    def of_a_layer(cls, units: int) -> "Teaching":
        """Return what labels say to a supervised layer by itself, of index 0."""
        return cls(units, {0: np.arange(units)}, frozenset([0]))

    def require(self, function: str, labels: Labels | None) -> None:
        """Raise ValueError for labels of classes that there are not."""
        if labels is not None and labels.size and int(labels.max()) >= self.classes:
            problem = f"must be below {self.classes}, the number of classes, got {int(labels.max())}."
            raise checks.wrong(ValueError, function, "labels", problem)

    def masks(self, i: int, labels: Labels | None, device: str) -> Array | None:
        """Return the masks (n, K), uint8, of layer i for images of these labels; None: it has no teacher."""
        if i not in self.units or labels is None:
            return None
        stand, of_image = self.units[i], labels[:, None]
        allowed = stand == of_image
        if i not in self.supervised:
            allowed |= (stand < 0) | (of_image < 0)
        return devices.to_device(allowed.astype(np.uint8), device)


def _classes_of(data: Any, labels: Any) -> int:
    """Return how many classes data have, by their labels or names. Raises ValueError if they do not say."""
    if labels is not None:
        return max(0, int(np.max(labels))) + 1
    names = streams.class_names_of(data)
    if not names:
        problem = "is needed: a teacher must know how many classes there are, and the data have no class_names."
        raise checks.wrong(ValueError, "fit", "classes", problem)
    return len(names)


class Labelled:
    """How many images came to layers that learn from labels, and how many of them had one."""

    def __init__(self) -> None:
        self._images = self._labelled = 0

    def count(self, labels: Labels | None) -> None:
        """Count the images of a batch; labels: (n,); None: nothing learns from any."""
        if labels is not None:
            self._images += len(labels)
            self._labelled += int(np.count_nonzero(labels >= 0))

    def tell(self, function: str, names: Sequence[str], team: Team | None, stacklevel: int) -> None:
        """Warn if none had a label, of those of all processes. names: of the layers; none: nothing learns from any."""
        counts = np.array([self._images, self._labelled], np.float64)
        if team is not None:
            team.sum(counts)
        if names and counts[0] and not counts[1] and (team is None or team.rank == 0):
            warnings.warn(
                f"{function}: no image of this pass had a label, and there is what learns from labels: "
                f"{', '.join(names)}. Bring labels along (numbers of classes from 0), or leave the teacher or the "
                "supervised layer out.",
                stacklevel=stacklevel + 1,
            )
