"""What a checkpoint of a training says besides its arrays, and what differs between two of them."""

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hebbcore import checkpoint, checks, serialize, streams
from hebbcore.network import Network
from hebbcore.training.array_batches import is_of_an_array
from hebbcore.training.settings import LEARNING_RATE, Training, may_change

FORMAT = 1  # of the header; one of a later format is refused

_OF_STREAMS = {"batch_size", "shuffle", "seed"}  # which a stream has itself, and its identity says


@dataclass
class Position:
    """What comes next in a training: phase, its epoch, and the batch in it; and how much was done."""

    phase: int = 0
    epoch: int = 0
    batch: int = 0
    pass_images: int = 0  # in this epoch of the phase
    phase_images: int = 0
    step: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            checks.integer("Position", each.name, getattr(self, each.name), 0)


@dataclass
class State:
    """How far a training is: all that changes between two of its checkpoints, but for the arrays.

    Attributes
    ----------
    position : Position
        What comes next.
    whitened : list of int
        The layers, by index, that had learned to whiten when the training began.
    rates : dict of str to float
        The learning rates that "auto" measured, by layer.
    seconds : float
        How long the training took until now, in all its parts.
    wins : dict of str to list of int
        How many patches each unit won in what is done of this epoch of the phase, by layer.
    judged : list of two int
        How many labelled images of it the last layer was right on, if it is supervised, and how many there were.
    """

    position: Position = field(default_factory=Position)
    whitened: list[int] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    wins: dict[str, list[int]] = field(default_factory=dict)
    judged: list[int] = field(default_factory=lambda: [0, 0])


@dataclass(frozen=True)
class RunHeader:
    """What a checkpoint of a training says besides its arrays.

    A field that came later needs a default here, or in Training, Position, the layer or the rule that has it: what an
    earlier version wrote lacks the field.

    Attributes
    ----------
    kind, image_shape, seed, precision, layers
        The network; see checkpoint.describe.
    training : Training
        The settings of fit.
    data : dict
        What tells the data and their order from others; see Batches.identity.
    position, whitened, rates, seconds, wins, judged
        How far the training is; see State.
    fit_defaults : dict
        Network.training, where it says anything; the settings are already made of it.
    pixel_scale : list or None
        Of the images that are learned from; see PixelScale. None: an earlier version wrote it.
    versions : dict
        Python, NumPy, the device, which decide nothing; and as "header" FORMAT, where an earlier hebbcore overlooks it.
    """

    kind: str
    image_shape: list[int]
    seed: int
    precision: str
    layers: list[dict[str, Any]]
    training: Training
    data: dict[str, Any]
    position: Position
    whitened: list[int] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    wins: dict[str, list[int]] = field(default_factory=dict)
    judged: list[int] = field(default_factory=lambda: [0, 0])
    versions: dict[str, Any] = field(default_factory=dict)
    fit_defaults: dict[str, Any] = field(default_factory=dict)
    pixel_scale: list[Any] | None = None

    def __post_init__(self) -> None:
        for key in ("data", "rates", "wins", "versions", "fit_defaults"):
            if not isinstance(getattr(self, key), dict):
                raise TypeError(f"RunHeader: {key} must be a table, got {getattr(self, key)!r}.")
        written = checks.integer("RunHeader", "versions.header", self.versions.get("header", 1), 1)
        if written > FORMAT:
            raise ValueError(f"RunHeader: format {written} is of a later hebbcore; this one reads up to {FORMAT}.")
        for index in self.whitened:
            if checks.integer("RunHeader", "whitened", index, 0) >= len(serialize.flat(self.layers)):
                raise ValueError("RunHeader: whitened names layers that are not there.")
        for rate in (*self.rates.values(), self.seconds):
            checks.real("RunHeader", "seconds and rates", rate)
        for counts in (*self.wins.values(), self.judged):
            if not isinstance(counts, list):
                raise TypeError(f"RunHeader: wins and judged must have lists, got {counts!r}.")
            for count in counts:
                checks.integer("RunHeader", "wins and judged", count, 0)
        if len(self.judged) != 2:
            raise ValueError(f"RunHeader: judged must be two numbers, got {self.judged}.")

    @classmethod
    def of(cls, network: Network, settings: Training, data: dict[str, Any], state: State) -> "RunHeader":
        """Return the header of a training. Raises ValueError for layers and rules without a name."""
        versions = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "device": network.site.device,
            "header": FORMAT,
        }
        model = checkpoint.describe("fit", network)
        return cls(**model, training=settings, data=data, versions=versions, **vars(state))

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "RunHeader":
        """Return the header of a checkpoint, with the defaults of all that its version did not know.

        Raises ValueError, TypeError or KeyError for a table that is none.
        """
        # layers as this version writes them: with the defaults of parameters that came later
        layers = serialize.layers_of(table["layers"], "layers", "fit")
        parts = {
            "layers": _plain([serialize.layer_table("fit", layer) for layer in layers]),
            "training": serialize.build(Training, table["training"], "training", "fit"),
            "position": serialize.build(Position, table["position"], "position", "fit"),
        }
        known = {key: value for key, value in table.items() if key != "value_range"}  # which pixel_scale has now
        return serialize.build(cls, {**known, **parts}, "", "fit")

    def table(self) -> dict[str, Any]:
        """Return the header as JSON types, as from_table reads it."""
        table: dict[str, Any] = _plain(dataclasses.asdict(self))
        return table

    @property
    def state(self) -> State:
        """How far the training is."""
        return State(**{each.name: getattr(self, each.name) for each in dataclasses.fields(State)})


def differences(here: RunHeader, there: RunHeader) -> list[str]:
    """Return what keeps the training `here` from going on from the checkpoint `there`: "… is … here and … there".

    How far it is and by which versions may differ, and settings on which nothing learned depends: those of may_change;
    a stream's batches, which its identity tells; and a learning rate that every layer overrides.
    """
    free = may_change(dataclasses.asdict(here.training))
    if not is_of_an_array(here.data):
        free |= _OF_STREAMS if here.training.sample is None else _OF_STREAMS - {"seed"}
    learners = [layer for layer in serialize.flat(here.layers) if "rule" in layer]
    overridden = all(layer["learning_rate"] for layer in learners)
    return serialize.differences(_fixed(here, there.data, free, overridden), _fixed(there, here.data, free, overridden))


def _fixed(header: RunHeader, others: dict[str, Any], free: set[str], overridden: bool) -> dict[str, Any]:
    """Return what of a header must be the same when a training goes on. others: the data of the other header."""
    table = header.table()
    training = {key: value for key, value in table["training"].items() if key not in free}
    if training["learning_rate"] is None or overridden:
        training["learning_rate"] = LEARNING_RATE  # what None means; without a layer that takes it, it decides nothing
    changing = {each.name for each in dataclasses.fields(State)} | {"versions", "fit_defaults", "pixel_scale"}
    kept = {key: value for key, value in table.items() if key not in changing}
    if training["mode"] == "layerwise":
        kept["layers"] = serialize.without("momentum", kept["layers"])  # earlier versions took any, which had no effect
    return {**kept, "training": training, "data": streams.told_apart_by(table["data"], others)}


def _plain(value: Any) -> Any:
    return json.loads(checkpoint.as_json(value))
