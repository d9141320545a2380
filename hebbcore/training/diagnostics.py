"""What a training tells about itself: speed, and for each layer how much it changes and which units win."""

import json
import math
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hebbcore.engine import backend, devices
from hebbcore.engine.backend import Array
from hebbcore.engine.group.team import Team
from hebbcore.engine.winners import dead_text, patches_of
from hebbcore.files import append_line, parse_json, write_atomically
from hebbcore.layers import Learner
from hebbcore.network import Network
from hebbcore.rules import Rule
from hebbcore.training.header import Position, State

METRICS = "metrics.jsonl"  # of a run

_CRC = re.compile(rb'(\{.*), "crc32": "([0-9a-f]{8})"\}\r?')  # of all before it

Record = dict[str, Any]


class Diagnostics:
    """Gathers what happens between two records, and hands a record to `tell` every few seconds.

    Parameters
    ----------
    network : Network
        What is trained.
    seconds : float
        Between two records.
    tell : callable
        Gets each record.

    Notes
    -----
    A record says of each layer that learned: change, ‖step‖ / ‖weights‖ of the latest step, without the units that
    it revived; norm_mean, norm_min and norm_max of the units' weights; dead, how many units never won since the
    record before (at the end of a pass, if that told of its last step: in the pass); entropy of the winners in
    bits, at most log2(units); winners, how many of them were counted. A unit wins a position of an image if its
    response, as the rule has it before an activation, is the largest there, or |response| if its rule says so, or
    one of the k largest of k-WTA; up to 1,024 positions a batch are looked at. Where units win in turn (SignedWTA
    with k > 1), the winners of all k turns count, of a k-th of the positions. At the end of a pass a record says of
    layers whose units compete also: pass_dead, as dead, and pass_winners, how many positions were counted, of the
    whole pass, and units. Where the last layer is supervised, it says the layer's accuracy, 0…1, on the pass's
    images with a label, and how many those are: labelled. Each batch is judged by the weights from before it.
    """

    def __init__(self, network: Network, seconds: float, tell: Callable[[Record], None]) -> None:
        self._network, self._seconds, self._tell = network, seconds, tell
        self._changes: dict[int, float] = {}
        self._wins: dict[int, Array] = {}
        self.begin_pass()
        self.start(0.0)

    def begin_pass(self, done: State | None = None) -> None:
        """Forget what is told of a pass as a whole, but for what is done of it already."""
        done = done or State()
        names, xp = self._network.names, backend.module(self._network.site.device)
        # by index of the layer
        self.pass_wins = {names.index(name): xp.asarray(counts, np.uint64) for name, counts in done.wins.items()}
        self._right: Any  # also an array on the network's device
        self._right, self._labelled = done.judged

    def start(self, elapsed: float) -> None:
        """Start the clock, which so many seconds have been on."""
        self._last, self._images = time.monotonic(), 0
        self._began = self._last - elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since the training began, over all runs."""
        return time.monotonic() - self._began

    @property
    def due(self) -> bool:
        """True if it is time for a record."""
        return time.monotonic() - self._last >= self._seconds

    def learned(self, index: int, change: float | None, won: Array) -> None:
        """Take a layer's step into account; won: how many patches each unit won, of those looked at."""
        for counts in (self._wins, self.pass_wins):
            counts[index] = counts[index] + won if index in counts else won
        if change is not None:
            self._changes[index] = change

    def judged(self, right: Array, labelled: int) -> None:
        """Count a batch's images with a label, and those of them that the network's last layer takes for it."""
        self._right, self._labelled = self._right + right, self._labelled + labelled

    def add_up(self, team: Team, end: bool) -> None:
        """Let the wins of all processes count; end: also what is told of the pass."""
        self._wins = _of_all(team, self._wins)
        if end:
            self.pass_wins, (self._right, self._labelled) = self._of_pass(team)

    def keep(self, state: State, team: Team | None) -> None:
        """Note in state what would be told of the pass if it ended now, of all processes of a team."""
        wins, state.judged = self._of_pass(team)
        state.wins = {self._network.names[i]: devices.to_device(counts, "cpu").tolist() for i, counts in wins.items()}

    def _of_pass(self, team: Team | None) -> tuple[dict[int, Array], list[int]]:
        """Return who won in the pass, and what was judged in it: right, labelled."""
        wins, judged = self.pass_wins, [int(self._right), self._labelled]
        if team is None:
            return wins, judged
        whole = _of_all(team, {**wins, -1: np.array(judged)})
        return whole, whole.pop(-1).tolist()

    def stepped(self, images: int) -> None:
        """Count the images of a step."""
        self._images += images

    def record(self, position: Record, images_left: float | None, end: bool = False) -> None:
        """Tell what happened since the last record, if anything.

        Parameters
        ----------
        position : dict
            Where the training is; the record begins with it.
        images_left : float or None
            In all phases; None if unknown.
        end : bool
            Of a pass: how many of the units that compete won nothing in the whole of it is then told too.
        """
        judged = end and self._labelled > 0
        wins = self.pass_wins if end and not self._wins else self._wins  # the record before may be of the last step
        tells = judged or (end and any(self._learner(i).bound_rule.competes for i in wins))
        if not self._images and not tells:
            return
        now = time.monotonic()
        rate = self._images / max(1e-9, now - self._last)
        layers = {self._network.names[i]: self._layer(i, wins[i], end) for i in sorted(wins)}
        left = None if images_left is None or not rate else images_left / rate
        self._tell(
            {
                **position,
                "seconds": round(self.elapsed, 3),
                "images_per_second": round(rate, 3),
                "seconds_left": None if left is None else round(left, 1),
                **(self._accuracy() if judged else {}),
                "layers": layers,
            }
        )
        self._last, self._images = now, 0
        self._changes.clear()
        self._wins.clear()

    def _accuracy(self) -> Record:
        return {"accuracy": _rounded(int(self._right) / self._labelled), "labelled": self._labelled}

    def _learner(self, index: int) -> Learner:
        return self._network.learners[self._network.names[index]]

    def _layer(self, index: int, won: Array, end: bool) -> Record:
        layer = self._learner(index)
        rule = layer.bound_rule
        norms = backend.row_norms(layer.weights.reshape(layer.units, -1))
        wins = devices.to_device(won, "cpu")
        shares = wins[wins > 0] / max(1, wins.sum())
        return {
            "change": _rounded(self._changes.get(index)),
            "norm_mean": _rounded(float(norms.mean())),
            "norm_min": _rounded(float(norms.min())),
            "norm_max": _rounded(float(norms.max())),
            "dead": int((wins == 0).sum()),
            "entropy": _rounded(abs(float(-(shares * np.log2(shares)).sum()))),
            "winners": int(wins.sum()),
            **(self._pass(index, rule) if end and rule.competes else {}),
        }

    def _pass(self, index: int, rule: Rule) -> Record:
        wins = devices.to_device(self.pass_wins[index], "cpu")
        return {"pass_dead": int((wins == 0).sum()), "pass_winners": patches_of(rule, wins), "units": len(wins)}


def require_wins(network: Network, wins: dict[str, list[int]]) -> None:
    """Raise ValueError for wins, see State, of another network, or OverflowError for more than there can be."""
    units = {name: getattr(layer, "units", None) for name, layer in zip(network.names, network.layers, strict=True)}
    for name, counts in wins.items():
        if len(np.array(counts, np.uint64)) != units.get(name):
            raise ValueError(f"there are wins of {len(counts)} units of {name}, which has not so many.")


def _of_all(team: Team, counts: dict[int, Array]) -> dict[int, Array]:
    """Return the sums of counts over the processes of a team, which have the same keys, on the host."""
    keys = sorted(counts)
    parts = [devices.to_device(counts[key], "cpu") for key in keys]
    whole = np.concatenate([*parts, np.empty(0)]).astype(np.float64)
    team.sum(whole)
    ends = np.cumsum([len(part) for part in parts])
    return {key: some.astype(np.uint64) for key, some in zip(keys, np.split(whole, ends), strict=False)}


def _rounded(value: float | None) -> float | None:
    """Return six significant digits; None for what JSON has no number for."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def append(path: Path, record: Record) -> None:
    """Add a line to a file of JSON lines, its CRC-32 as the last entry. An OSError leaves the file as it was."""
    text = json.dumps(record)[:-1]
    append_line(path, f'{text}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'.encode())


def lines(path: Path) -> list[Record]:
    """Return the records of a file of JSON lines; none if it is missing. A last line that a kill cut off is left out.

    Raises ValueError for a line that is something else, or does not match its CRC-32 (an earlier version wrote none).
    """
    return [record for record, _, _ in _lines(path)]


def dead_texts(path: Path) -> list[str]:
    """Return a sentence for each layer of which many units won nothing in the last pass, from a run's metrics."""
    last: dict[str, Record] = {}
    for record, _, _ in _lines(path):
        last.update({name: layer for name, layer in record.get("layers", {}).items() if "pass_dead" in layer})
    texts = (dead_text(name, *(of[key] for key in ("pass_dead", "units", "pass_winners"))) for name, of in last.items())
    return [text for text in texts if text is not None]


def without_checksum(path: Path) -> int:
    """Return how many lines have none; see lines."""
    return sum(not checked for _, _, checked in _lines(path))


def cut_after(path: Path, at: Position | None) -> None:
    """Leave out what a training that goes on from a position writes anew: the records after it; None: all of them.

    That of the end of a pass is, too, where the last step is done and the pass has not ended. Where there are none,
    nothing is written: a full disk must not keep a finished training from being one.
    """

    def stays(record: Record) -> bool:
        place = [record["phase"], record["epoch"]]
        return at is not None and record["step"] <= at.step and place <= [at.phase, at.epoch]

    def kept() -> Iterator[bytes]:
        return (line + b"\n" for record, line, _ in _lines(path) if stays(record))

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.writelines(kept())

    if path.exists() and sum(map(len, kept())) != path.stat().st_size:
        write_atomically(path, write)


def _lines(path: Path) -> Iterator[tuple[Record, bytes, bool]]:
    """Yield each record, without its checksum, its line, and whether it had one; the file may be of any length."""
    checked = False
    for number, line, ended in _raw_lines(path):
        advice = f"{path}: line {number} is {{}}; remove that line."
        try:
            record = parse_json(line)
        except ValueError:
            if not ended:  # a kill cut it off
                continue
            raise ValueError(advice.format("damaged")) from None
        if not _is_of_a_training(record):
            raise ValueError(
                f"{path}: line {number} is no record of a training; remove that line, or move the file if it is "
                "another program's."
            )
        found = _CRC.fullmatch(line)
        if found is None and (checked or "crc32" in record):  # an earlier version's lines come first
            raise ValueError(advice.format("damaged"))
        if found is not None:
            del record["crc32"]
            if int(found[2], 16) != zlib.crc32(found[1]):
                raise ValueError(advice.format("damaged: it does not match its CRC-32"))
            checked = True
        yield record, line, found is not None


def _is_of_a_training(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("layers"), dict):
        return False
    return all(type(record.get(key)) is int for key in ("step", "phase", "epoch"))


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Yield the lines of a file with their numbers, from 1, and whether they end; none of a missing file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removesuffix(b"\n"), line.endswith(b"\n")
