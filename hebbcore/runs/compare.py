"""The settings and the metrics of runs, and tables of several runs side by side."""

import contextlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hebbcore import checks
from hebbcore.files import parse_json
from hebbcore.runs.changes import names_in
from hebbcore.serialize import CONFIG, layer_of, layer_table, places_of, without
from hebbcore.texts import in_markdown
from hebbcore.training.diagnostics import METRICS, Record, lines
from hebbcore.training.settings import LEARNING_RATE, Training

Table = list[list[str]]  # rows, the head first

_SIZES = ("workspace", "training.cache_bytes")
_LAYER = re.compile(r"network\.layers\[\d+\]\.type")

FIGURES = {  # of a layer, and what they are
    "dead": "units that won nothing in the last pass (where units do not compete: the fewest of a record)",
    "change": "‖step‖ / ‖weights‖ of the last step measured",
    "norm_mean": "mean norm of the units",
    "entropy": "entropy of the winners, bits",
}


def records_of(function: str, run: Path) -> list[Record]:
    """Return the metrics of a run. Raises ValueError if there are none, or one is damaged."""
    records = lines(run / METRICS)
    if not records:
        raise ValueError(f"{function}: {run / METRICS} holds no metrics; train first.")
    for record in records:
        if not _is_whole(record):
            raise ValueError(
                f"{function}: {run / METRICS}: the record of step {record['step']} is damaged; remove its line."
            )
    return records


def _is_whole(record: Record) -> bool:
    """Return True for a record that has what pictures and tables show."""
    layers = record.get("layers")
    return (
        all(isinstance(record.get(key), int) for key in ("images", "epoch", "phase"))
        and isinstance(record.get("seconds"), int | float)
        and isinstance(layers, dict)
        and all(isinstance(layer, dict) and all(key in layer for key in FIGURES) for layer in layers.values())
    )


def layers_of(records: Iterable[Record]) -> list[str]:
    """Return the names of the layers in some records, in their order."""
    return list(dict.fromkeys(name for record in records for name in record["layers"]))


@dataclass(frozen=True)
class Figures:
    """How a training ended, and each layer's FIGURES.

    images_per_second is of what followed the first record, whose time holds what a start takes, such as compiling
    kernels; of a training with one record it is of all of it.
    """

    images: int
    seconds: float
    images_per_second: float | None
    layers: dict[str, dict[str, Any]]

    @property
    def dead(self) -> int:
        """How many units of all layers never won."""
        return sum(layer["dead"] for layer in self.layers.values())


def final_figures(records: Sequence[Record]) -> Figures:
    """Return how a training ended."""
    last = records[-1]
    layers = {}
    for name in layers_of(records):
        own = [record for record in records if name in record["layers"]]
        said = [record["layers"][name] for record in reversed(own)]
        latest = [record["layers"][name] for record in reversed(_last_epoch(own))]
        dead = [each["pass_dead"] for each in said if "pass_dead" in each]
        layers[name] = {
            "dead": dead[0] if dead else min(each["dead"] for each in latest),
            "change": next((each["change"] for each in said if each["change"] is not None), None),
            "norm_mean": said[0]["norm_mean"],
            "entropy": max(latest, key=lambda each: each.get("winners", 0))["entropy"],  # few winners have little
        }
    return Figures(last["images"], last["seconds"], _speed(records[0], last), layers)


def _speed(first: Record, last: Record) -> float | None:
    """Return the images a second between two records; of all of the training if nothing lies between them."""
    images, seconds = last["images"] - first["images"], last["seconds"] - first["seconds"]
    if images <= 0 or seconds <= 0:
        images, seconds = last["images"], last["seconds"]
    return images / seconds if seconds else None


def _last_epoch(records: Sequence[Record]) -> Sequence[Record]:
    """Return the records of the last epoch; its first record alone would count few winners, and mislead."""
    last = records[-1]
    found = [r for r in records if r["phase"] == last["phase"] and r["epoch"] >= last["epoch"] - 1]
    ends_another = len(found) > 1 and 0 < found[0]["epoch"] < last["epoch"]  # the epoch before it
    return found[1:] if ends_another else found


def settings_of(run: Path) -> dict[str, Any]:
    """Return the configuration of a run by the paths of its keys; keys that an older hebbcore left out have defaults.

    Raises ValueError if it cannot be read.
    """
    path = run / CONFIG
    if not path.exists():
        return {}
    try:
        table = parse_json(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); restore it, or remove it.") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path} is no configuration of a run; restore it, or remove it.")
    training = table.get("training")
    if isinstance(training, dict):
        default = {key: value for key, value in vars(Training()).items() if key != "seed"}
        table["training"] = default | training
        if table["training"]["learning_rate"] is None:
            table["training"]["learning_rate"] = LEARNING_RATE
    network = table.get("network")
    if isinstance(network, dict) and isinstance(network.get("layers"), list):
        network.setdefault("preprocess", "none")  # of a training from Python
        _leave_out_names(network["layers"])
        network["layers"] = [_plainest(layer) for layer in network["layers"]]
    return dict(_flat({"imports": [], **table}, ""))


def _leave_out_names(tables: list[Any]) -> None:
    """Take the names that a network would give its layers out of their tables, if their kinds are known."""
    with contextlib.suppress(TypeError, ValueError, LookupError, AttributeError):
        names = names_in(without("name", tables))
        for (there, i), name in zip(places_of(tables), names, strict=True):
            if there[i].get("name") == name:
                del there[i]["name"]


def _plainest(table: Any) -> Any:
    """Return the table of a layer without what says nothing, such as a default; as it is if its kind is not known.

    Two equal sides are one number.
    """
    if not isinstance(table, dict) or (whole := _whole(table)) is None:
        return table
    kept = dict(table)
    for key, value in table.items():
        if isinstance(value, list) and len(value) == 2 and _whole({**table, key: value[0]}) == whole:
            kept[key] = value[0]
    for key in table:
        rest = {name: value for name, value in kept.items() if name != key}
        kept = rest if _whole(rest) == whole else kept
    if isinstance(kept.get("rule"), dict):
        rule = dict(kept["rule"])
        for key in kept["rule"]:
            rest = {name: value for name, value in rule.items() if name != key}
            rule = rest if _whole({**kept, "rule": rest}) == whole else rule
        kept["rule"] = rule.pop("name")  # as a rule is written that has no parameters
        kept |= {f"rule.{key}": value for key, value in rule.items()}
    if isinstance(kept.get("branches"), list):
        kept["branches"] = [[_plainest(layer) for layer in branch] for branch in kept["branches"]]
    return kept


def _whole(table: dict[str, Any]) -> dict[str, Any] | None:
    """Return the table of a layer with all defaults, None if there is no such layer."""
    try:
        return layer_table("plot", layer_of(table, ""))
    except (TypeError, ValueError):
        return None


def _flat(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    """Yield the path of each value in a table, and the value; tables and lists of tables and lists are looked into."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{i}]")
    else:
        yield path, value


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose values are not the same in all settings; a missing key counts as None."""
    keys = dict.fromkeys(key for given in settings for key in given)
    return [key for key in keys if any(_meant(key, given) != _meant(key, settings[0]) for given in settings)]


def _meant(key: str, settings: Mapping[str, Any]) -> Any:
    """Return a setting as it can be compared: sizes in bytes, however they are written."""
    value = settings.get(key)
    if key in _SIZES:
        with contextlib.suppress(TypeError, ValueError):
            return checks.byte_size("plot", key, value)
    return value


def comparison(runs: Mapping[str, Path]) -> list[tuple[str, Table]]:
    """Return tables, with their titles, that tell how the settings of several runs differ and how the runs ended."""
    settings = _comparable({name: settings_of(run) for name, run in runs.items()})
    figures = {name: final_figures(records_of("plot", run)) for name, run in runs.items()}
    keys = differing(list(settings.values()))
    table = [["run", *keys, "images", "seconds", "images a second", "dead units"]]
    for name, found in figures.items():
        row = [setting_text(settings[name].get(key)) for key in keys]
        ended = (found.images, found.seconds, found.images_per_second, found.dead)
        table.append([name, *row, *map(text_of, ended)])
    return [("Runs", table), *_by_layer(figures)]


def _comparable(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return settings that name only the kinds of layers if the runs differ in them; their numbers do not compare."""
    kinds = {name: [v for k, v in given.items() if _LAYER.fullmatch(k)] for name, given in settings.items()}
    if len(set(map(str, kinds.values()))) == 1:
        return settings
    return {
        name: {key: value for key, value in given.items() if not key.startswith("network.layers[")}
        | {"network.layers": ", ".join(map(str, kinds[name])) or None}
        for name, given in settings.items()
    }


def _by_layer(figures: Mapping[str, Figures]) -> list[tuple[str, Table]]:
    names = list(dict.fromkeys(layer for found in figures.values() for layer in found.layers))
    tables = []
    for key, title in FIGURES.items():
        table = [["run", *names]]
        for run, found in figures.items():
            table.append([run, *(text_of(found.layers.get(name, {}).get(key)) for name in names)])
        tables.append((title[0].upper() + title[1:], table))
    return tables


def text_of(figure: float | None) -> str:
    """Return a figure as the text of a cell: to four digits, nothing for None."""
    return f"{figure:.4g}" if isinstance(figure, float) else setting_text(figure)


def setting_text(value: Any) -> str:
    """Return a setting as the text of a cell: with all digits, by which settings may differ; nothing for None."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.removesuffix(".0") if isinstance(value, float) else text


def markdown(title: str, sections: Iterable[tuple[str, Table]]) -> str:
    """Return tables as Markdown that shows the text of each cell as it is."""
    parts = [f"# {in_markdown(title)}", ""]
    for name, (head, *rows) in sections:
        parts += [f"## {in_markdown(name)}", "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    return "\n".join(parts)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else in_markdown(cell) for cell in cells) + " |"
