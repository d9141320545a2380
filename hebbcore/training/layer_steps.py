"""The steps of train_layer: its first epoch, and what a batch does to the weights."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.answers import factors_of
from hebbcore.engine.backend import Array
from hebbcore.engine.finite import require_finite
from hebbcore.engine.group.portion import Portion, taking
from hebbcore.engine.group.team import Team
from hebbcore.engine.patches import Geometry
from hebbcore.engine.rivalry import Rivalry
from hebbcore.engine.soundness import Divergence, is_due, largest_stable_rate, require_finite_output, watched
from hebbcore.engine.starting import starting_weights
from hebbcore.engine.state import move_on
from hebbcore.engine.update import BatchedUpdate, add_scaled
from hebbcore.engine.winners import Tally, counts_now, few_are_dead, spread, spread_of_a_step, tell_dead
from hebbcore.layers import HebbianLayer
from hebbcore.layers.arguments import check_images
from hebbcore.training.batch import Batch, Labels, kept
from hebbcore.training.shares import here_of
from hebbcore.training.teacher import Labelled, Teaching

FUNCTION, NAME = "train_layer", "the layer"  # in messages


class Step(NamedTuple):
    """What train_layer's callback gets after each batch.

    Attributes
    ----------
    epoch, step : int
        Both count from 0; step goes on from epoch to epoch.
    images : int
        Seen so far.
    weights : Array
        The live array (units, …), which the next step changes.
    """

    epoch: int
    step: int
    images: int
    weights: Array


class FirstEpoch:
    """The batches of the first epoch, of which the first can be looked at before they are learned from.

    once: they come from an iterator, so that what was looked at is kept. team: whose shares they are.
    """

    def __init__(self, batches: Any, once: bool, team: Team | None = None) -> None:
        self.batches, self._once = batches, once
        self._rest = batches.epoch(0)
        first = next(self._rest)
        self._read = [first]
        self.first: Batch
        self.portion: Portion | None
        self.first, self.portion = here_of(first, team)

    def look(self) -> Generator[Batch, None, None]:
        """Return the batches, from the first."""
        if not self._once:
            yield from getattr(self.batches, "whole", self.batches).epoch(0)
            return
        self._read = list(map(self._kept, self._read))
        yield from list(self._read)
        for batch in self._rest:
            self._read.append(self._kept(batch))
            yield batch

    def _kept(self, batch: Batch) -> Batch:
        return kept(FUNCTION, batch) if self.batches.lends else batch

    def rewind(self) -> None:
        """Begin anew after a look, which may have drawn another order."""
        if not self._once:
            self._rest, self._read = self.batches.epoch(0), []

    def __iter__(self) -> Iterator[Batch]:
        return itertools.chain(self._read, self._rest)


class LayerTraining:
    """What changes the weights of a layer, batch by batch, and looks after them."""

    def __init__(
        self, layer: HebbianLayer, g: Geometry, workspace: int, check_finite: bool, team: Team | None = None
    ) -> None:
        self._team = team
        self._layer, self._g, self._workspace = layer, g, workspace
        self._rule, self._matrix = layer.rule, layer.weights.reshape(layer.units, -1)
        self._device = backend.device_of(layer.weights)
        self._update = BatchedUpdate(layer.rule, g, layer.units, layer.precision, workspace, FUNCTION)
        self._divergence = Divergence(FUNCTION) if check_finite else None
        self._rivalry: Rivalry | None = None
        self._wins = backend.module(self._device).zeros(layer.units, np.uint64)  # of the last epoch, while they tell
        self._wins_tell, self._looked_at = layer.rule.competes, 0
        self._steps = self._seen = 0
        self._checked: tuple[Any, ...] = ()  # shape and dtype of the batch that was checked last,
        self._shape: tuple[int, ...] = ()  # and its shape as images
        self._teaching, self._labelled = Teaching.of_a_layer(layer.units), Labelled()
        self.rate, self.auto = 0.0, False  # auto: the rate was measured

    def start(self, how: str, first_epoch: FirstEpoch, generator: np.random.Generator) -> None:
        """Let the weights start from patches of the first data."""
        drawn = devices.to_device(self._matrix, "cpu")

        def inputs() -> Iterator[Array]:
            with closing(first_epoch.look()) as source:
                for batch in source:
                    yield devices.to_device(self._images(batch.images), self._device)

        make = partial(starting_weights, FUNCTION, how, self._rule, drawn, self._g, inputs, generator)
        found = make() if self._team is None else self._team.broadcast(first_epoch.batches.by_first(make))
        self._matrix[...] = devices.to_device(found, self._device)
        first_epoch.rewind()

    def rival(self, conscience: float, revival: float, generator: np.random.Generator) -> None:
        """Let units compete with a bias, or be revived."""
        seed = int(generator.integers(2**63))
        self._rivalry = Rivalry(self._rule, self._g, self._matrix, conscience, revival, seed)

    def run(
        self, epoch: int, source: Iterable[Batch], unchecked: bool, last: bool, bar: Any,
        callback: Callable[[Step], None] | None,
    ) -> None:  # fmt: skip
        """Learn from the batches of an epoch; unchecked: nobody has looked whether they are finite."""
        stable = None
        for batch in source:
            here, portion = here_of(batch, self._team)
            images = self._images(here.images)
            if unchecked:
                largest = require_finite(FUNCTION, "data", images)
                if self._layer.pixel_scale is not None:
                    self._layer.pixel_scale = self._layer.pixel_scale.after(FUNCTION, images, largest)
            count = len(images) if portion is None else portion.total
            if not count:  # all of it is damaged
                continue
            x = images if backend.device_of(images) == self._device else devices.to_device(images, self._device)
            with taking(portion), watched(self._divergence):
                if self._divergence is not None:
                    stable = partial(largest_stable_rate, self._rule, x, self._g)
                    self._divergence.begin(NAME, self._rule, self._matrix, x, self._g)
                teacher = None if here.labels is None else self._masks(here.labels)
                counting = last and self._wins_tell and counts_now(self._steps, self._looked_at, self._layer.units)
                won = self._learn(x, teacher, counting)
                self._steps += 1
                if self._divergence is not None and is_due(self._steps):
                    self._divergence.require(NAME, self._matrix, self._steps, self.rate, stable, self.auto)
            self._seen += count
            if won is not None:
                self._wins = self._wins + won
            if last and self._wins_tell and is_due(self._steps):
                self._wins_tell = not few_are_dead(self._wins)
            bar.update(count)
            if callback is not None:
                callback(Step(epoch, self._steps - 1, self._seen, self._layer.weights))
        if self._divergence is not None:
            self._divergence.require(NAME, self._matrix, self._steps, self.rate, stable, self.auto)

    def _images(self, batch: Any) -> Array:
        """Return a batch as (n, H, W, C) images of the geometry. Raises ValueError for others."""
        plain = type(batch) is np.ndarray  # else it may be masked, or elsewhere
        if plain and (batch.shape, batch.dtype) == self._checked:  # to check again takes long beside a small step
            return batch.reshape(self._shape)
        images = check_images(FUNCTION, batch, self._layer.weights.shape, "data")
        if images.shape[1:3] != self._g.size:
            raise ValueError(f"{FUNCTION}: data changed from images of {self._g.size} to {images.shape[1:3]}.")
        if plain and images.dtype == batch.dtype:
            self._checked, self._shape = (batch.shape, batch.dtype), images.shape
        return images

    def _masks(self, labels: Labels) -> Array | None:
        """Return which units (images, units) may learn: each from its class, where the rule is supervised."""
        self._teaching.require(FUNCTION, labels)
        self._labelled.count(labels)
        return self._teaching.masks(0, labels, self._device)

    def _learn(self, images: Array, teacher: Array | None, counting: bool) -> Array | None:
        """Change the weights by one batch; if counting, return how many of some patches each unit wins."""
        rule, matrix, rivalry = self._layer.bound_rule, self._matrix, self._rivalry
        rows = len(images) * self._g.positions
        bias = tally = None
        if rivalry is not None:
            bias, rivalry.rule = rivalry.bias(matrix.dtype), rule
            rivalry.take(images, matrix.dtype)
            tally = Tally(rule, matrix, spread(rows, self._g.positions))
        elif counting:
            chosen = spread_of_a_step(rule, rows, self._g.positions)
            self._looked_at += len(range(rows)[chosen.rows])
            tally = Tally(rule, matrix, chosen)
        state = self._layer.state or {}
        delta, scale, after = self._update.begin(images, matrix, None, bias, teacher, state, tally)()
        rate = factors_of(rule, "rate", self._rule.bound(after).rate(matrix, self.rate), len(matrix), matrix)
        add_scaled(matrix, rate * scale, delta)
        move_on(state, after)
        if tally is None:
            return None
        if rivalry is not None:
            rivalry.count(tally.total)
            rivalry.revive(matrix)
        return tally.counts if counting else None

    def finish(self, first: Array) -> None:
        """Look at what was learned: whether it is sound, and which units won nothing. first: the first batch."""
        team = self._team
        if team is not None and self._rule.competes:
            wins = devices.to_device(self._wins, "cpu").astype(np.float64)
            team.sum(wins)
            self._wins = wins
        tells = team is None or team.rank == 0
        if self._divergence is not None:
            if tells:
                self._divergence.tell(NAME, self._rule, self._matrix, 3, self.auto)
            transform = partial(self._layer.transform, workspace=self._workspace)
            image_bytes = self._g.positions * self._matrix[:, 0].nbytes
            require_finite_output(FUNCTION, NAME, transform, first, image_bytes, [self._rule])
        if self._rule.competes and tells:
            tell_dead(FUNCTION, NAME, self._rule, self._wins, 3)
        if self._rule.supervised:
            self._labelled.tell(FUNCTION, [NAME], team, 3)
