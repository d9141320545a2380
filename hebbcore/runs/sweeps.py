"""Grids of configurations: which runs there are."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hebbcore import checks
from hebbcore.engine import devices
from hebbcore.network import Network
from hebbcore.runs.changes import parse_change, parse_value
from hebbcore.runs.config import Config
from hebbcore.training.settings import FREE, LEARNING_RATE

_LONG = 40  # characters of a value in the name of a folder
_LONGEST = 255  # bytes that such a name may have
_EXACT = 15  # digits of an integer that is a float too


@dataclass(frozen=True)
class Planned:
    """A run of a sweep: the name of its folder, that of its settings without the seed, and its configuration."""

    name: str
    group: str
    values: dict[str, Any]
    config: Config


def read_grid(options: Iterable[str]) -> dict[str, list[str]]:
    """Return the values, as text, of each key of "key=value,value,…". Raises ValueError for what is none."""
    grid: dict[str, list[str]] = {}
    for option in options:
        key, _, text = option.partition("=")
        key = ".".join(parse_change(option)[0])
        values = _split(text)
        if key == "seed":
            raise ValueError("sweep: --grid does not take seed; use --seeds COUNT, which takes the seeds 0, 1, ….")
        if key in grid:
            raise ValueError(f"sweep: --grid {key} is there twice; give all its values in one.")
        if len(values) < 2 or not all(values):
            raise ValueError(
                f"sweep: --grid must be KEY=VALUE,VALUE,…, got {option!r}; --set {key}=VALUE is for one of all runs."
            )
        parsed = [_by_value(parse_value(value)) for value in values]
        for i, value in enumerate(parsed):
            if value in parsed[:i]:
                raise ValueError(f"sweep: --grid {key} has {values[i]} twice; leave one out.")
        grid[key] = values
    return dict(sorted(grid.items()))


def _split(text: str) -> list[str]:
    """Return the parts of a text between commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def plan(
    read: Callable[[list[str]], Config], grid: Mapping[str, list[str]], seeds: Sequence[int] | None
) -> list[Planned]:
    """Return the runs of every combination of a grid's values and every seed. seeds: None: the configuration's.

    read: returns the configuration with some changes, "key=value".
    Raises ValueError or TypeError for keys and values that are wrong, or change nothing of what is learned.
    """
    runs = []
    seen: dict[str, str] = {}
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        changes = [f"{key}={value}" for key, value in values.items()]
        group = ",".join(f"{key}={_name_of(value)}" for key, value in values.items())
        for of_seed in [[]] if seeds is None else [[f"seed={seed}"] for seed in seeds]:
            config = read([*changes, *of_seed])
            config.check()
            name = _fitting(",".join(filter(None, [group, f"seed={config.seed}"])))
            learned = _learned(config)
            if learned in seen:
                raise ValueError(
                    f"sweep: {seen[learned]} and {name} are the same training; leave out values that change nothing of "
                    "what is learned."
                )
            seen[learned] = name
            parsed = {key: parse_value(value) for key, value in values.items()}
            runs.append(Planned(name, group, {**parsed, "seed": config.seed}, config))
    return runs


def _learned(config: Config) -> str:
    """Return the part of a configuration that decides what is learned, and how fast."""
    table = config.table()
    table["training"] = {key: value for key, value in table["training"].items() if key not in FREE}
    table["training"]["learning_rate"] = table["training"]["learning_rate"] or LEARNING_RATE  # what None means
    table["workspace"] = checks.byte_size("sweep", "workspace", config.workspace)
    table["network"] = config.whole_network()
    return _by_value(table)


def _by_value(value: Any) -> str:
    """Return a text that is the same for equal values: 1 and 1.0 are."""

    def number(text: str) -> int | float:
        return int(text) if len(text) > _EXACT else float(text)

    return json.dumps(json.loads(json.dumps(value, default=str), parse_int=number), sort_keys=True)


def _name_of(value: str) -> str:
    """Return a value as a part of a folder's name, with a digest if characters had to be left out."""
    name = re.sub(r"[^\w.+-]+", "-", value).strip("-")[:_LONG]
    return name if name == value else f"{name}-{_digest(value, 3)}"


def _fitting(name: str) -> str:
    """Return a name, its end replaced by a digest of the whole where it is too long for a folder."""
    encoded = name.encode()
    return (
        name if len(encoded) <= _LONGEST else f"{encoded[: _LONGEST - 17].decode(errors='ignore')}-{_digest(name, 8)}"
    )


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


def digest_of(network: Network) -> str:
    """Return a digest of the weights alone."""
    digest = hashlib.blake2b(digest_size=16)
    for layer in network.learners.values():
        digest.update(np.ascontiguousarray(devices.to_device(layer.weights, "cpu")).data)
    return digest.hexdigest()
