"""The report of an evaluation: Markdown, a self-contained HTML page, and pictures."""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hebbcore.evaluation.metrics import mean_interval
from hebbcore.evaluation.passes import doubts, unlabelled
from hebbcore.files import write_bytes
from hebbcore.texts import in_markdown, plain

Table = list[list[str]]  # its first row is the head

_SHOWN = 20  # mistakes

_CAPTIONS = {
    "accuracy.png": "Accuracy against labels; baselines are dashed.",
    "filters.png": "Filters of the first layer.",
}


def write_report(
    folder: Path, results: dict[str, Any], title: str, filters: bytes | None = None, dead: Sequence[str] = ()
) -> list[Path]:
    """Write report.md, report.html, accuracy.png (and filters.png) beside results.json, and return their paths.

    results: of evaluate. filters: a PNG of what the first layer learned. dead: sentences on units that win nothing.
    Raises ModuleNotFoundError if Matplotlib, which draws the curves, is missing.
    """
    pictures = {"accuracy.png": _curves(results)}
    if filters is not None:
        pictures["filters.png"] = filters
    sections = [
        ("Top-1 accuracy, %", accuracy_table(results, "top1")),
        ("Top-5 accuracy, %", accuracy_table(results, "top5")),
        ("Retrieval", retrieval_table(results)),
        *[
            (f"Confusion: {plain(name)}", _confusion(entry["confusion"], results["classes"]))
            for name, entry in _best(results)
            if entry["confusion"]
        ],
        *[(f"Most clearly mistaken: {plain(name)}", _mistakes(results, name)) for name, _ in _best(results)],
    ]
    sections = [(name, table) for name, table in sections if len(table) > 1]
    title, notes = plain(title), [*_notes(results), *map(plain, dead)]
    paths = []
    for name, text in (
        ("report.md", _markdown(title, notes, sections, pictures)),
        ("report.html", _page(title, notes, sections, pictures)),
    ):
        pictures[name] = text.encode()
    for name, data in pictures.items():
        write_bytes(folder / name, data)
        paths.append(folder / name)
    return paths


def require_matplotlib() -> None:
    """Raise ModuleNotFoundError if Matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'evaluate: the report needs Matplotlib; install hebbcore with the extra "plot".'
        ) from error


def accuracy_table(results: dict[str, Any], key: str) -> Table:
    """Return a row for each source, and a column for each labelled fraction: mean ± 95 % interval over seeds."""
    shares = _shares(results)
    table = [["features", "number", *[f"{100 * share:g} %" for share in shares]]]
    for name, entry in results["sources"].items():
        row = [plain(name), str(entry["features"])]
        for share in shares:
            values = [run[key] for run in entry["runs"] if run["labels"] == share]
            row.append(_figure(values) if values else "")
        table.append(row)
    return table


def _shares(results: dict[str, Any]) -> list[float]:
    return sorted({run["labels"] for entry in results["sources"].values() for run in entry["runs"]})


def _figure(values: Sequence[float]) -> str:
    found = mean_interval(values)
    return str(found) if math.isfinite(found.half_width) else f"{found.mean:.1f}"


def retrieval_table(results: dict[str, Any]) -> Table:
    """Return a row for each source and metric: precision and mean average precision at each k, in percent."""
    table: Table = []
    for name, entry in results["sources"].items():
        for metric, found in (entry["retrieval"] or {}).items():
            if not table:
                table.append(["features", "distance", *[f"{what}@{k}" for k in found["k"] for what in ("P", "mAP")]])
            pairs = zip(found["precision"], found["map"], strict=True)
            table.append([plain(name), metric, *[f"{value:.1f}" for pair in pairs for value in pair]])
    return table


def _best(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the source of the best accuracy with the most labels: (name, results)."""
    scored = [
        (max((run["labels"], run["top1"]) for run in entry["runs"]), name, entry)
        for name, entry in results["sources"].items()
        if entry["runs"]
    ]
    return [(name, entry) for _, name, entry in sorted(scored, key=lambda item: item[0])[-1:]]


def _confusion(rows: list[list[int]], classes: list[Any]) -> Table:
    if len(rows) > 20:  # too large to read
        return []
    return [
        ["true \\ predicted", *map(plain, classes)],
        *[[plain(name), *map(str, row)] for name, row in zip(classes, rows, strict=True)],
    ]


def _mistakes(results: dict[str, Any], source: str) -> Table:
    """Return a row for each test image that a source takes for another class by the largest margin."""
    classes, found = results.get("classes", []), results.get("mistakes", {}).get(source, [])
    return [
        ["test image", "true", "predicted", "margin"],
        *[
            [
                plain(one.get("name", one["image"])), plain(classes[one["true"]]), plain(classes[one["predicted"]]),
                f"{one['margin']:.2f}",
            ]
            for one in found[:_SHOWN]
        ],
    ]  # fmt: skip


def remarks(results: dict[str, Any]) -> list[str]:
    """Return what must be known of the images to read the figures, a sentence each: the gravest first."""
    images = results.get("images", {})
    counts = [(name, found["labelled"], found["unlabelled"]) for name, found in images.items()]
    return [*doubts(results), *[line for count in counts for line in unlabelled(*count)]]


def _notes(results: dict[str, Any]) -> list[str]:
    from hebbcore.evaluation.sources import BASELINES

    settings = results["settings"]
    notes = [
        *remarks(results),
        f"Readout: {plain(settings['readout'])}, fitted to the labelled part of the training images alone; labelled "
        f"images are selected the {settings['how']} way. Mean ± 95 % interval over the selections; all labels are one.",
    ]
    if settings["mirror"]:
        notes.append("Features are averaged over each image and its mirror image.")
    behind = []
    random = results["sources"].get("random filters")
    if random is not None and random["runs"]:
        share = max(run["labels"] for run in random["runs"])

        def mean(entry: dict[str, Any]) -> float:
            values = [run["top1"] for run in entry["runs"] if run["labels"] == share]
            return sum(values) / len(values) if values else math.nan

        behind = [
            name for name, entry in results["sources"].items() if name not in BASELINES and mean(entry) <= mean(random)
        ]
    if behind:
        notes.append(f"No better than random filters of the first layer's size: {plain(', '.join(behind))}.")
    return notes


def _curves(results: dict[str, Any]) -> bytes:
    """Return a PNG of accuracy against labels."""
    require_matplotlib()
    from matplotlib.figure import Figure

    from hebbcore.evaluation.sources import BASELINES

    figure = Figure(figsize=(8, 5), layout="constrained")
    axis: Any = figure.subplots()
    for name, entry in results["sources"].items():
        shares = sorted({run["labels"] for run in entry["runs"]})
        if not shares:
            continue
        found = [mean_interval(run["top1"] for run in entry["runs"] if run["labels"] == share) for share in shares]
        widths = [value.half_width if math.isfinite(value.half_width) else 0 for value in found]
        axis.errorbar(
            [100 * share for share in shares], [value.mean for value in found], widths, label=_label(name), capsize=2,
            marker=".", linestyle="--" if name in BASELINES else "-",
        )  # fmt: skip
    axis.set(xlabel="labelled images, %", ylabel="top-1 accuracy, %", xscale="log")
    shares = _shares(results)
    axis.set_xticks([100 * share for share in shares], [f"{100 * share:g}" for share in shares])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3)
    axis.legend()
    file = io.BytesIO()
    figure.savefig(file, dpi=120, format="png")
    return file.getvalue()


def _label(name: str) -> str:
    return plain(name).replace("$", "\\$")  # between two of them Matplotlib reads formulas


def _markdown(title: str, notes: list[str], sections: list[tuple[str, Table]], pictures: dict[str, bytes]) -> str:
    parts = [
        f"# {in_markdown(title)}",
        *map(in_markdown, notes),
        *[f"![{_CAPTIONS[name]}]({name})" for name in pictures],
    ]
    for name, table in sections:
        lines = ["| " + " | ".join(map(in_markdown, row)) + " |" for row in table]
        lines.insert(1, "|" + "---|" * len(table[0]))
        parts += [f"## {in_markdown(name)}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:right}td:first-child,th:first-child{text-align:left}"
    "figure{margin:1em 0}img{max-width:100%}"
)


def _page(title: str, notes: list[str], sections: list[tuple[str, Table]], pictures: dict[str, bytes]) -> str:
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        *[f"<p>{html.escape(note)}</p>" for note in notes],
        *[
            f'<figure><img alt="" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{html.escape(_CAPTIONS[name])}</figcaption></figure>"
            for name, data in pictures.items()
        ],
    ]
    for name, table in sections:
        head, *rows = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for row, tag in _tagged(table)]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(name)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "\n".join([*parts, "</body></html>\n"])


def _tagged(table: Table) -> list[tuple[list[str], str]]:
    return [(row, "td" if i else "th") for i, row in enumerate(table)]
