"""What a learning rule is."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from hebbcore.engine.answers import divisor_of, own_methods
from hebbcore.engine.backend import Array, row_norms
from hebbcore.engine.competition import Gate, Norms
from hebbcore.engine.moments import Moments
from hebbcore.engine.teaching import Teacher


@dataclass(frozen=True)
class Rule:
    """Base of the learning rules: a frozen dataclass of a rule's parameters, which answers scores with a gate.

    A batch of N patches X (N, D) changes the weights W (K, D) by

        ΔW = scale ∘ (Gᵀ X − C·W),    W ← W + rate ∘ ΔW

    A subclass says what G and C are (`gate`), and may change the other parts. It sees neither convolutions, chunks nor
    devices: arrays are NumPy or CuPy (`hebbcore.namespace(scores)`), and one batch can reach `gate` in several pieces,
    from several threads at once.

    A rule may have a state: numbers of each unit that go from step to step, such as a running mean of its scores. They
    lie with the layer, not in the rule, which says what they begin with (`initial_state`) and what a batch makes of
    them (`next_state`). `gate`, `response` and `activate` are then called on a copy of the rule that has them
    (`self.state`): in a step those of after its batch, else those of the last step.

    Attributes
    ----------
    state : mapping of str to Array
        In `gate`, `response` and `activate`: the numbers (K,), float64, by name; empty for rules without a state.
    signed : bool
        Class attribute. True: units win by |output|.
    unit_norms : bool
        Class attribute. True: learning holds the norms of weights at 1 or below.
    free_norms : bool
        Class attribute. True: the scale of the patches alone sets the norms of weights, which may be any; only NaN and
        infinity then tell that weights diverge.
    pairs : bool
        Class attribute. True: `gate` answers with a Pair. It may then hold a second array of the scores' size.
    needs_norms : bool
        Class attribute. True: `gate` gets Norms, `response` and `activate` the units' norms; else they get None.
    competes : bool
        Class attribute. True: units compete for patches: they can start from patches, a unit can win nothing, and a
        bias can help it.
    supervised : bool
        Class attribute. True: each unit stands for a class and learns from labels alone, by `taught_gate`.
    """

    state: ClassVar[Mapping[str, Array]] = {}  # of a copy that `bound` made
    signed: ClassVar[bool] = False  # True: units win by |output|
    unit_norms: ClassVar[bool] = False  # True: learning holds the norms of weights at 1 or below
    free_norms: ClassVar[bool] = False  # True: norms follow the scale of the patches; only NaN and infinity are wrong
    pairs: ClassVar[bool] = False  # True: gate answers with a Pair
    # True: gate gets Norms, response and activate the units' norms; else they get None
    needs_norms: ClassVar[bool] = False
    # True: units compete for patches, so that patches are a start for them, one can win nothing, and a bias can help it
    competes: ClassVar[bool] = False
    supervised: ClassVar[bool] = False  # True: each unit stands for a class and learns from labels alone

    def __post_init__(self) -> None:
        """Make NumPy's numbers among the parameters plain ones, as files give them back: int8 and float16 overflow."""
        for name, value in vars(self).items():
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())

    def gate(self, scores: Array, norms: Norms | None) -> Gate:
        """Return G and the sums over rows for some scores; every rule must define it.

        Parameters
        ----------
        scores : Array
            (n, K), patches by units: X Vᵀ, V the `projection` of the weights. May be overwritten.
        norms : Norms or None
            Norms of these patches and of the units, if the rule `needs_norms`.

        Returns
        -------
        Gate
            G (n, K), its decay and its mass.
        """
        raise NotImplementedError(f"{type(self).__name__} must define gate(scores, norms).")

    def biased_gate(self, scores: Array, norms: Norms, bias: Array) -> Gate:
        """Return the gate of a competition with a bias.

        Unit i competes as if the cosine of its weights and the patch were larger by bias_i; what it learns if it wins
        stays the same.

        Parameters
        ----------
        scores : Array
            (n, K), as `gate` gets them. May be overwritten.
        norms : Norms
            Norms of these patches and of the units.
        bias : Array
            (K,), in units of a cosine.

        Returns
        -------
        Gate
            G (n, K), its decay and its mass.
        """
        raise NotImplementedError(f"{type(self).__name__} has no competition with a bias: it must define biased_gate.")

    @property
    def takes_bias(self) -> bool:
        """Whether the rule has a competition with a bias. SoftHebb's, hard WTA's and Krotov's have none.

        Their units give way by themselves: a unit that wins shrinks, and it must win to shrink.
        """
        return type(self).biased_gate is not Rule.biased_gate

    def taught_gate(self, scores: Array, norms: Norms | None, teacher: Teacher) -> Gate:
        """Return the gate of a batch with a teacher, which says which units may learn from which image.

        Parameters
        ----------
        scores : Array
            (n, K), as `gate` gets them. May be overwritten.
        norms : Norms or None
            Norms of these patches and of the units, if the rule `needs_norms`.
        teacher : Teacher
            Of these patches.

        Returns
        -------
        Gate
            G (n, K), its decay and its mass.
        """
        raise NotImplementedError(f"{type(self).__name__} takes no teacher: it must define taught_gate.")

    @property
    def whole_pairs(self) -> bool:
        """Whether Pairs count as a whole (`lower` False), which decides the order of products. Default False."""
        return False

    @property
    def takes_teacher(self) -> bool:
        """Whether the rule listens to a teacher.

        A gate of one's own needs a taught_gate of one's own: those of hebbcore's rules do not call it.
        """
        known = self.supervised or not own_methods(self, "gate") or bool(own_methods(self, "taught_gate"))
        return known and type(self).taught_gate is not Rule.taught_gate

    def projection(self, weights: Array) -> Array:
        """Return the matrix V (K, D) of the scores X Vᵀ: by default the weights (K, D), which must stay as they are."""
        return weights

    def initial_state(self) -> dict[str, float]:
        """Return what each unit's state begins with, a number for all units, by name. Default: no state."""
        return {}

    def next_state(self, state: Mapping[str, Array], scores: Moments) -> dict[str, Array]:
        """Return the state after a batch, which its gate then sees; every rule with a state must define it.

        Parameters
        ----------
        state : mapping of str to Array
            (K,), float64, from before the batch. Not to be overwritten.
        scores : Moments
            Of the scores of the whole batch, by the weights from before the step.

        Returns
        -------
        dict of str to Array
            (K,), float64, of the same names.
        """
        raise NotImplementedError(f"{type(self).__name__} has a state: it must define next_state(state, scores).")

    def bound(self, state: Mapping[str, Array]) -> Self:
        """Return a copy of the rule whose `state` is this one; the rule itself if it has none."""
        if not state:
            return self
        rule = copy.copy(self)
        object.__setattr__(rule, "state", state)
        return rule

    def adjust(self, delta: Array, weights: Array) -> None:
        """Change the summed change in place, before it is scaled. Default: not at all.

        Parameters
        ----------
        delta : Array
            (K, D): Gᵀ X − C·W.
        weights : Array
            (K, D), from before the step.
        """

    def divisor(self, size: int) -> float:
        """Return what ΔW is divided by besides the number of patches, of so many numbers (D), above 0. Default 1."""
        return 1.0

    def scale(self, delta: Array, rows: int, mass: Array | None) -> Any:
        """Return what the summed change is multiplied by. Default 1 / (rows · divisor).

        Parameters
        ----------
        delta : Array
            (K, D): Gᵀ X − C·W.
        rows : int
            N, patches of the batch.
        mass : Array or None
            (K,), the summed mass of the gates.

        Returns
        -------
        float or Array
            A number, or (K, 1).
        """
        return 1 / (rows * divisor_of(self, delta.shape[1]))

    def rate(self, weights: Array, learning_rate: float) -> Any:
        """Return the learning rate of a step. Default: constant.

        Parameters
        ----------
        weights : Array
            (K, D), from before the step.
        learning_rate : float
            That of the training.

        Returns
        -------
        float or Array
            A number, or (K, 1).
        """
        return learning_rate

    def stable_rate(self, eigenvalue: float) -> float | None:
        """Return the largest learning rate at which the rule is stable. Default None: the data do not tell.

        Parameters
        ----------
        eigenvalue : float
            The largest of XᵀX / N, above 0.

        Returns
        -------
        float or None
            The rate, were there no `divisor`; learning_rate="auto" takes half of it, times the divisor.
        """
        return None

    def response(self, scores: Array, unit_norms: Array | None) -> Array:
        """Return the output of a linear layer. Default: the scores.

        Parameters
        ----------
        scores : Array
            (n, K). May be overwritten.
        unit_norms : Array or None
            (K,), if the rule `needs_norms`.

        Returns
        -------
        Array
            (n, K).
        """
        return scores

    def activate(self, scores: Array, unit_norms: Array | None) -> Array:
        """Return the layer's output. Default: the response.

        Parameters
        ----------
        scores : Array
            (n, K). May be overwritten.
        unit_norms : Array or None
            (K,), if the rule `needs_norms`.

        Returns
        -------
        Array
            (n, K).
        """
        return self.response(scores, unit_norms)

    def initial_weights(self, generator: np.random.Generator, units: int, size: int) -> np.ndarray[Any, Any]:
        """Return weights to start from. Default U(−1/√size, 1/√size).

        Parameters
        ----------
        generator : numpy.random.Generator
            To draw from.
        units : int
            K.
        size : int
            D.

        Returns
        -------
        numpy.ndarray
            (units, size), float64.
        """
        bound = 1 / np.sqrt(size)
        return generator.uniform(-bound, bound, (units, size))

    def lengths(self, weights: Array) -> Array:
        """Return the length of each unit's weights (K, 1) as the rule measures it. Default Euclidean."""
        return row_norms(weights)

    def from_patches(self, patches: Array, lengths: Any) -> Array:
        """Return weights that start from patches. Default: the patches, made as long as the weights that they replace.

        Parameters
        ----------
        patches : Array
            (units, size), none of them 0.
        lengths : Array or float
            (units, 1) or a number, of the weights that are replaced.

        Returns
        -------
        Array
            (units, size).
        """
        return patches * (lengths / self.lengths(patches))

    def expected_winners(self) -> int | None:
        """Return about how many entries of a row of G are not 0; None if most are not."""
        return None

    def winners_in_turn(self) -> int:
        """Return how many units win a patch one after the other, 1 by default.

        Above 1 matching pursuit takes the place of `gate`: the unit of the largest |x·w| / ‖w‖ (with a bias, as
        `biased_gate` says) learns y (x − y w), y = x·w / ‖w‖, from what the units before it have left of the patch.
        """
        return 1

    def winners_at_once(self) -> int:
        """Return how many units win a patch side by side, 1 by default.

        Those of the largest so many responses have won it for conscience, revival, and what is told of units that win
        nothing.
        """
        return 1

    def check_units(self, function: str, units: int) -> None:
        """Raise ValueError if the rule cannot work with so many units."""
