"""`hebbcore evaluate`: what the features of a run are worth."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hebbcore import checkpoint, plots, streams
from hebbcore.checks import printable
from hebbcore.cli import together
from hebbcore.cli.networks import learned_classes, learned_range, load_network, network_stream
from hebbcore.cli.options import (
    add_batches,
    add_image_size,
    add_import,
    add_mirror,
    add_network,
    add_previous,
    add_shifts,
    require_own_files,
)
from hebbcore.cli.photos import is_photos, labelled_split, range_of
from hebbcore.cli.sources import labelled_stream
from hebbcore.evaluation.book import RESULTS
from hebbcore.evaluation.evaluate import asked, evaluate
from hebbcore.evaluation.own import own_text
from hebbcore.evaluation.readouts import READOUTS
from hebbcore.evaluation.report import WRITTEN, accuracy_table, remarks, require_matplotlib, selections, write_report
from hebbcore.evaluation.results import Results
from hebbcore.evaluation.sources import BASELINES
from hebbcore.evaluation.splits import FRACTIONS
from hebbcore.features.helpers import helped
from hebbcore.files import locked
from hebbcore.labelling.work import IMAGES
from hebbcore.network import Network
from hebbcore.streams import Stream
from hebbcore.texts import plain
from hebbcore.training.diagnostics import METRICS, dead_texts

_SEEDS, _SELECT = 5, "published"  # by default


def add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `evaluate` command to a command line."""
    command = commands.add_parser(
        "evaluate",
        description="Fit a classifier to the features of each layer, and of baselines, with some of the labels; write "
        "a report (Markdown, HTML, JSON). An image with a label below 0 counts as unlabelled and is left out. An "
        "interrupted evaluation goes on when the same command is run again.",
    )
    add_network(command)
    command.add_argument(
        "--train",
        type=Path,
        required=True,
        help="training images: shards, class folders, an archive of images, or an HDF5 file with the split train",
    )
    command.add_argument(
        "--test",
        type=Path,
        required=True,
        help="test images: shards, class folders, an archive of images, or an HDF5 file with the split test",
    )
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the report")
    command.add_argument(
        "--labels", type=_percentages, default=FRACTIONS, metavar="PERCENT,…",
        help="percentages of the training labels to use (default: 1,2,3,4,5,10,25,100)",
    )  # fmt: skip
    command.add_argument(
        "--seeds", type=int, default=_SEEDS, help=f"number of selections of labelled images (default: {_SEEDS})"
    )
    command.add_argument(
        "--layers", type=_names, metavar="NAME,…", help="layers to judge (default: the end of each learner's block)"
    )
    command.add_argument("--readout", choices=READOUTS, default="ridge", help="classifier (default: ridge)")
    command.add_argument(
        "--select", choices=("published", "stratified"), default=_SELECT,
        help=f"how labelled images are selected (default: {_SELECT})",
    )  # fmt: skip
    command.add_argument(
        "--baselines", type=_names, default=list(BASELINES), metavar="NAME,…",
        help=f'baselines to compare with (default: {",".join(BASELINES)}; "none": none of them)',
    )  # fmt: skip
    command.add_argument(
        "--features", type=int,
        help="the most features an image gets (default: 5000, and all that branches at the network's end join)",
    )  # fmt: skip
    add_mirror(command)
    add_shifts(command)
    command.add_argument(
        "--queries", type=int, default=1000, help="number of test images for retrieval (default: 1000; 0: no retrieval)"
    )
    command.add_argument("--memory", default="4 GiB", help='memory for features (default: "4 GiB")')
    add_image_size(command)
    add_batches(command, 256)
    add_previous(command)
    add_import(command)
    command.set_defaults(run=_evaluate)


def _require_effect(options: argparse.Namespace) -> None:
    """Raise ValueError for options that would change nothing."""
    given = {"--seeds": options.seeds != _SEEDS, "--select": options.select != _SELECT}
    for name, is_given in given.items():
        if is_given and all(share == 1 for share in options.labels):
            raise ValueError(
                f"evaluate: {name} has no effect: --labels 100 takes all labels, so that there is one selection only; "
                "leave it out, or add percentages."
            )


def _percentages(text: str) -> list[float]:
    try:
        shares = [float(part) / 100 for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be percentages such as 1,10,100, got {text!r}") from None
    if not all(0 < share <= 1 for share in shares):
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 100, got {text!r}")
    return shares


def _names(text: str) -> list[str]:
    return [] if text == "none" else [name.strip() for name in text.split(",")]


def _evaluate(options: argparse.Namespace) -> int:
    _require_effect(options)
    with helped("evaluate", together.group(), together.given(options)) as leads:
        if leads:
            _evaluate_all(options)
    return 0


def _evaluate_all(options: argparse.Namespace) -> None:
    require_matplotlib()  # not after hours of work
    if (options.out / checkpoint.FOLDER).is_dir():
        raise ValueError(
            f"evaluate: {options.out} is the folder of a run, whose filters.png the report would replace; name another "
            f"--out, such as {options.out / 'report'}."
        )
    require_own_files(options.out, WRITTEN, (RESULTS,))
    network = load_network(options.network, options.imports, options.previous, options.device)
    wanted: dict[str, Any] = {
        "layers": options.layers, "fractions": options.labels, "seeds": options.seeds, "readout": options.readout,
        "how": options.select, "baselines": options.baselines, "features": options.features, "mirror": options.mirror,
        "shifts": options.shifts, "queries": options.queries, "memory": options.memory,
    }  # fmt: skip
    asked("evaluate", network, **wanted)  # before photos are read, which may take long
    train, test = _streams(options, network)
    metrics = options.network / METRICS
    dead = dead_texts(metrics) if metrics.exists() else []
    table = evaluate(
        network, train, test, options.out, **wanted,
        progress=lambda text: print(plain(text), file=sys.stderr, flush=True),
    )  # fmt: skip
    notes = [*dead, _own(network, test, options)] if network.predicts else dead
    filters = plots.first_filters(network)
    picture = None if filters is None else plots.filters_png(filters)
    with locked(options.out, "evaluating into"):
        paths = write_report(options.out, table, f"Features of {options.network}", picture, notes)
    results = Results.from_json(table)
    for row in accuracy_table(results, lambda run: run.top1):
        print("  ".join(f"{cell:>12}" if i else f"{cell:<24}" for i, cell in enumerate(row)))
    if any(share < 1 for share in results.shares):
        print(f"mean ± 95 % interval over {selections(results)}")
    for line in (*remarks(results), *map(plain, notes)):
        print(line)
    print(printable("\n".join(map(str, paths))))


def _own(network: Network, test: Stream, options: argparse.Namespace) -> str:
    """Return a sentence on how often the network is right by itself, if it numbers classes as the images do."""
    pairs = zip(learned_classes(options.network), streams.class_names_of(test), strict=False)
    for number, (learned, here) in enumerate(pairs):
        if learned != here and str(number) not in (learned, here):  # as arrays without names call it
            return (
                f"The network classifies by itself, but not into these classes: {number} is {learned!r} among the "
                f"images that it learned from and {here!r} here, so that nothing is told of how often it is right."
            )
    return own_text(network, test, options.mirror, options.shifts)


def _streams(options: argparse.Namespace, network: Network) -> list[Stream]:
    """Return the images to train and to test with."""
    sets = {"train": options.train, "test": options.test}
    parts = {split: labelled_split(path, split) for split, path in sets.items()}
    for split, path in sets.items():
        if not is_photos(path):  # what is wrong with it is known before photos are read
            labelled_stream(path, split, options.batch_size, None)
    found, white = [], learned_range(network, options.network)
    for split, path in sets.items():
        images = options.out / IMAGES / split
        stream = network_stream(
            network, path, split, options.batch_size, options.image_size, images=images, part=parts[split],
            value_range=white,
        )  # fmt: skip
        found.append(stream)
        white = white or range_of(images if is_photos(path) else path)
    return found
