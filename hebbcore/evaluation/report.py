"""The report of an evaluation: Markdown, a self-contained HTML page, and pictures."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hebbcore.evaluation.metrics import mean_interval
from hebbcore.evaluation.pages import Table, as_markdown, as_page
from hebbcore.evaluation.passes import doubts, unlabelled
from hebbcore.evaluation.readouts import KINDS
from hebbcore.evaluation.results import HELD_OUT, Results, Run, SourceResults
from hebbcore.evaluation.sources import BASELINES
from hebbcore.files import write_bytes
from hebbcore.texts import plain

WRITTEN = (_MARKDOWN, _HTML, _CURVES) = ("report.md", "report.html", "accuracy.png")  # and of some networks:
_FILTERS = "filters.png"
_SHOWN = 20  # mistakes


def write_report(
    folder: Path, results: dict[str, Any], title: str, filters: bytes | None = None, dead: Sequence[str] = ()
) -> list[Path]:
    """Write report.md, report.html, accuracy.png (and filters.png) beside results.json, and return their paths.

    Parameters
    ----------
    folder : Path
        Where they go; it exists.
    results : dict
        What evaluate returns.
    title : str
        The report's heading.
    filters : bytes, optional
        A PNG of the filters that plots.first_filters finds.
    dead : sequence of str
        Sentences on units that win nothing, and on a network that classifies by itself.

    Raises
    ------
    ModuleNotFoundError
        If Matplotlib, which draws the curves, is missing.
    ValueError, LookupError, TypeError
        If results are none.
    """
    found = Results.from_json(results)
    pictures = {_CURVES: _curves(found)}
    if filters is not None:
        pictures[_FILTERS] = filters
    sections = [
        ("Top-1 accuracy, %", accuracy_table(found, lambda run: run.top1)),
        ("Top-5 accuracy, %", accuracy_table(found, lambda run: run.top5)),
        ("Retrieval", retrieval_table(found)),
        *[
            (f"Confusion: {plain(name)}", _confusion(entry.confusion, found.classes))
            for name, entry in _best(found)
            if entry.confusion
        ],
        *[(f"Most clearly mistaken: {plain(name)}", _mistakes(found, name)) for name, _ in _best(found)],
    ]
    sections = [(name, table) for name, table in sections if len(table) > 1]
    title, notes = plain(title), [*_notes(found), *map(plain, dead)]
    paths = []
    for name, text in (
        (_MARKDOWN, as_markdown(title, notes, sections, pictures)),
        (_HTML, as_page(title, notes, sections, pictures)),
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


def accuracy_table(results: Results, figure: Callable[[Run], float]) -> Table:
    """Return a row for each source, and a column for each share of the labels: mean ± 95 % interval over seeds.

    GFLOP are those of an image, see Network.gflop; there is no such column if no source's are known.
    """
    shares = results.shares
    costs = any(entry.gflop is not None for entry in results.sources.values())
    table = [["features", "number", *["GFLOP"] * costs, *[f"{100 * share:g} %" for share in shares]]]
    for name, entry in results.sources.items():
        row = [plain(name), str(entry.features), *[_cost(entry.gflop)] * costs]
        for share in shares:
            values = [figure(run) for run in entry.runs_at(share)]
            row.append(_figure(values) if values else "")
        table.append(row)
    return table


def _cost(gflop: float | None) -> str:
    return "" if gflop is None else f"{gflop:.2g}" if gflop < 1 else f"{gflop:.2f}"


def _figure(values: Sequence[float]) -> str:
    found = mean_interval(values)
    return str(found) if math.isfinite(found.half_width) else f"{found.mean:.1f}"


def retrieval_table(results: Results) -> Table:
    """Return a row for each source and metric: precision and mean average precision at each k, in percent."""
    table: Table = []
    for name, entry in results.sources.items():
        for metric, found in (entry.retrieval or {}).items():
            # earlier versions listed a k twice where a class has 100 rows
            pairs = dict(zip(found.k, zip(found.precision, found.mean_average_precision, strict=True), strict=True))
            if not table:
                table.append(["features", "distance", *[f"{what}@{k}" for k in pairs for what in ("P", "mAP")]])
            table.append([plain(name), metric, *[f"{value:.1f}" for pair in pairs.values() for value in pair]])
    return table


def _best(results: Results) -> list[tuple[str, SourceResults]]:
    """Return the source of the best accuracy, on the mean, with the most labels: (name, results)."""
    scored = [
        ((entry.shares[-1], _top1(entry, entry.shares[-1])), name, entry)
        for name, entry in results.sources.items()
        if entry.runs
    ]
    return [(name, entry) for _, name, entry in sorted(scored, key=lambda item: item[0])[-1:]]


def _top1(entry: SourceResults, share: float) -> float:
    """Return the mean accuracy of a source with a share of the labels; NaN if it has no figure."""
    values = [run.top1 for run in entry.runs_at(share)]
    return sum(values) / len(values) if values else math.nan


def _confusion(rows: list[list[int]], classes: list[str | int]) -> Table:
    if len(rows) > 20:  # too large to read
        return []
    return [
        ["true \\ predicted", *map(plain, classes)],
        *[[plain(name), *map(str, row)] for name, row in zip(classes, rows, strict=True)],
    ]


def _mistakes(results: Results, source: str) -> Table:
    """Return a row for each test image that a source takes for another class by the largest margin."""
    classes = results.classes
    return [
        ["test image", "true", "predicted", "margin"],
        *[
            [plain(one.image.title), plain(classes[one.true]), plain(classes[one.predicted]), f"{one.margin:.2f}"]
            for one in results.mistakes.get(source, [])[:_SHOWN]
        ],
    ]


def remarks(results: Results) -> list[str]:
    """Return what must be known of the images to read the figures, a sentence each: the gravest first."""
    counts = [(split, found.labelled, found.unlabelled) for split, found in (results.images or {}).items()]
    return [*doubts(results), *[line for count in counts for line in unlabelled(*count)]]


def selections(results: Results) -> str:
    """Return how many selections of labelled images the figures are of: earlier ones of the folder count too."""
    counts: dict[int, dict[float, list[str]]] = {}
    for name, entry in results.sources.items():
        for share in entry.shares:
            if share < 1:
                counts.setdefault(len(entry.runs_at(share)), {}).setdefault(share, []).append(name)
    if not counts:
        return "the selections"
    most = max(counts, key=lambda count: sum(map(len, counts[count].values())))
    usual = f"{most} selection{'s' * (most != 1)}"
    others = [
        f"{count} for {plain(', '.join(names))} at {100 * share:g} %"
        for count in sorted(counts.keys() - {most})
        for share, names in counts[count].items()
    ]
    return f"{usual}, but {'; '.join(others)}" if others else usual


def _notes(results: Results) -> list[str]:
    settings = results.settings
    notes = [
        *remarks(results),
        f"Readout: {plain(settings.readout)}, fitted to the labelled part of the training images alone; labelled "
        f"images are selected the {settings.how} way. Mean ± 95 % interval over {selections(results)}; all labels are "
        "one.",
    ]
    if settings.penalty != HELD_OUT and settings.readout in KINDS:
        kind = KINDS[settings.readout]
        notes.append(
            f"Its penalty is chosen on the labelled images: up to {kind.few:,} are left out in turn, "
            f"{'one by one' if kind.singly else 'in five parts'}, a fifth of more is held out"
            f"{', and of fewer whose features memory has no room for' * kind.singly}."
        )
    if any(entry.gflop is not None for entry in results.sources.values()):
        notes.append(
            "GFLOP: billions of floating point operations of the matrix products for the features of an image, two for "
            "each multiplication. docs/results.md of hebbcore has published methods to compare with."
        )
    if settings.mirror:
        notes.append("Features are averaged over each image and its mirror image.")
    if settings.shifts:
        notes.append(f"Features are averaged over each image and the same shifted by {settings.shifts} pixels, 4 ways.")
    behind = _behind_random(results)
    if behind:
        notes.append(f"No better than random filters of the first layer's size: {plain(', '.join(behind))}.")
    return notes


def _behind_random(results: Results) -> list[str]:
    """Return the layers that do not beat random filters with the most labels that these have."""
    random = results.sources.get("random filters")
    if random is None or not random.runs:
        return []
    share = random.shares[-1]
    least = _top1(random, share)
    return [name for name, entry in results.sources.items() if name not in BASELINES and _top1(entry, share) <= least]


def _curves(results: Results) -> bytes:
    """Return a PNG of accuracy against labels."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axis: Any = figure.subplots()
    for name, entry in results.sources.items():
        shares = entry.shares
        if not shares:
            continue
        found = [mean_interval(run.top1 for run in entry.runs_at(share)) for share in shares]
        widths = [value.half_width if math.isfinite(value.half_width) else 0 for value in found]
        axis.errorbar(
            [100 * share for share in shares], [value.mean for value in found], widths, label=_label(name), capsize=2,
            marker=".", linestyle="--" if name in BASELINES else "-",
        )  # fmt: skip
    axis.set(xlabel="labelled images, %", ylabel="top-1 accuracy, %", xscale="log")
    shares = results.shares
    axis.set_xticks([100 * share for share in shares], [f"{100 * share:g}" for share in shares])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3)
    axis.legend()
    file = io.BytesIO()
    figure.savefig(file, dpi=120, format="png")
    return file.getvalue()


def _label(name: str) -> str:
    return plain(name).replace("$", "\\$")  # between two of them Matplotlib reads formulas
