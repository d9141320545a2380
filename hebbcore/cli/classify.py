"""`hebbcore classify`: from a few labels to labels for all images."""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hebbcore import checkpoint
from hebbcore.checks import printable
from hebbcore.cli.networks import learned_range, load_network, require_squares, side_of
from hebbcore.cli.options import add_import, add_previous, require_own_files
from hebbcore.cli.photos import Photos, is_photos, read_photos, require_own
from hebbcore.cli.progress import Left, clock
from hebbcore.cli.stages import Stages
from hebbcore.cli.tables import Table, require_taken_over
from hebbcore.dictionary import SMALLEST
from hebbcore.engine import devices
from hebbcore.files import locked, make_folder, remove_partial
from hebbcore.labelling.done import DONE, changed_since
from hebbcore.labelling.features import learned_network
from hebbcore.labelling.model import FOLDER, NETWORK, NOTE, Model
from hebbcore.labelling.work import (
    FEATURES,
    FOLLOWING,
    IMAGES,
    LEARNED,
    OUTPUTS,
    REPORT,
    Labels,
    classified,
    require_search,
)
from hebbcore.network import Network
from hebbcore.page.store import LABELS
from hebbcore.training.diagnostics import Record
from loaders.shards.format import INDEX, PLAN
from loaders.shards.plan import found_instead

_OF_A_WORK = (  # one of them at least, whatever a user has removed
    DONE, FEATURES, LABELS, f"{FOLDER}/{NOTE}", f"{IMAGES}/{INDEX}", f"{IMAGES}/{PLAN}",
    f"{LEARNED}/{checkpoint.FOLDER}",
)  # fmt: skip


def add_classify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `classify` command to a command line."""
    command = commands.add_parser(
        "classify",
        description="Learn features from all images, then give every image a label from the few that are known. The "
        "folder of the work gets predictions.csv, next.csv, report.html and model/. An interrupted command goes on "
        "when it is run again; with more labels, only the last stage is done anew.",
    )
    add_work(
        command,
        "CSV or TSV of file and label (default: the class folders that the images lie in); without any label, next.csv "
        "names the images to label first",
    )
    command.set_defaults(run=_classify)


def add_work(command: argparse.ArgumentParser, labels: str) -> None:
    """Add the options of a command that does all stages. labels: what --labels is."""
    command.add_argument(
        "photos",
        type=Path,
        help="folder of images, nested or not, or of class folders; shards; an archive; an HDF5 file",
    )
    command.add_argument("--out", type=Path, required=True, metavar="WORK", help="folder of the work")
    command.add_argument("--labels", type=Path, metavar="FILE", help=labels)
    command.add_argument(
        "--features", type=Path, metavar="RUN",
        help="take the features of this trained network: folder of a run, or a file of hebbcore.save (default: the "
        "dictionary, learned from the images)",
    )  # fmt: skip
    command.add_argument(
        "--image-size", type=int, metavar="PIXELS",
        help="side of the central square that is taken of each image (default: what fits the images, at most 48; "
        "arrays of up to 96 pixels, or of other than 1 or 3 channels, stay whole)",
    )  # fmt: skip
    add_split(command)
    command.add_argument(
        "--no-mirror", action="store_false", dest="mirror",
        help="features of each image alone, not averaged with those of its mirror image: for text, or where left and "
        "right matter",
    )  # fmt: skip
    command.add_argument(
        "--prior", choices=("labelled", "uniform"), default="labelled",
        help="how frequent the classes are: as among the labels, or all alike (default: labelled). It is for guesses "
        "from up to 350 labels a class, on the mean, and for the estimate of their accuracy",
    )  # fmt: skip
    command.add_argument(
        "--suggestions", type=int, default=20, metavar="N", help="images that next.csv names (default: 20)"
    )
    command.add_argument(
        "--device", choices=devices.CHOICES, default="auto", help="where to compute (default: CUDA if it works)"
    )
    add_previous(command)
    add_import(command)


def add_split(command: argparse.ArgumentParser) -> None:
    """Add --split to a command that reads images of any kind."""
    command.add_argument("--split", help="train, test or val, for sources that hold several (default: train)")


def require_there(photos: Path) -> None:
    """Raise FileNotFoundError if there are no images."""
    if not photos.exists():
        raise FileNotFoundError(f"{photos} does not exist; give a folder of images, shards or an HDF5 file.")


def require_several(photos: Sequence[str]) -> None:
    """Raise ValueError for a single photo, of which nothing can be learned."""
    if len(photos) < 2:
        raise ValueError(f"photos must be two or more, to learn from each other; there is only {photos[0]}.")


def require_outside(out: Path, photos: Path) -> None:
    """Raise ValueError if what is written would lie among the images."""
    if out.resolve().is_relative_to(photos.resolve()):
        raise ValueError(f"--out must lie outside of the images' folder, got {out}, in {photos}.")


def _classify(options: argparse.Namespace) -> int:
    work, stages = options.out, Stages()
    network = begun(options)
    with locked(work, "classifying into"), of_other_images(work):
        labels, model = _in_work(options, network, stages)
    if labels.are_few:
        _tell_what_to_label(work, labels)
        return 0
    if model is None:
        print(printable(f"{work}: nothing to do, its results are of these images and labels{_changed(work)}"))
    print(printable(f"{work}: {', '.join(OUTPUTS)} and model/"))
    return 0


def _changed(work: Path) -> str:
    """Return what to add about results that a user has changed, who may not want to lose that."""
    found = [name for name in changed_since(work) if name != FOLLOWING]  # which is for labels of the user's
    if not found:
        return ""
    return f"; but {' and '.join(found)} changed since: remove {'it' if len(found) == 1 else 'them'} to have that anew"


def begun(options: argparse.Namespace) -> Network | None:
    """Check the options, and make the folder of the work; returns the network of --features."""
    _check(options)
    network = _given_network(options)
    _require_work(options)
    make_folder(options.out)
    return network


def _require_work(options: argparse.Namespace) -> None:
    """Raise ValueError for a folder of no work where files of others would be replaced, or images read among them."""
    require_own_files(options.out, (*OUTPUTS, f"{FOLDER}/{NETWORK}"), _OF_A_WORK)
    if not (options.photos / INDEX).is_file():
        require_own(options.out / IMAGES)


@contextmanager
def of_other_images(work: Path) -> Iterator[None]:
    """Do stages in a folder; errors of what lies in it get advice, in place of that of the parts."""
    remove_partial(work)
    try:
        yield
    except (FileExistsError, ValueError) as error:
        if re.search(rf"(?<![\w./-]){re.escape(str(work))}/", str(error)) is None:
            raise
        what = found_instead(error) or str(error)
        advice = (
            f"If {work} is the work of other photos, of another network or with other options, name another --out, or "
            "remove it."
        )
        if (work / LABELS).exists():
            advice += f" Its labels go along with a copy of {LABELS} in the new folder."
        raise ValueError(f"{what.rstrip('.')}. {advice}") from None


def table_of(options: argparse.Namespace) -> Table | None:
    """Return the table of --labels, None without; it may be wrong, which is to be known before long work."""
    return None if options.labels is None else Table(options.labels, options.photos, options.split)


def _tell_what_to_label(work: Path, labels: Labels) -> None:
    """Say what to do before there are labels of two classes."""
    print(printable(f"{work}: {FOLLOWING} and {REPORT}, which name the images to label first; {labels.state}"))
    if labels.classes:
        advice = (
            f"Write labels of another class too into the empty column of {work / FOLLOWING}, add its rows to the table "
            "of --labels (to a new table if there is none), and run the same command with --labels."
        )
    else:
        advice = (
            f"Copy {work / FOLLOWING} to labels.csv, write labels of two classes or more into it, and run the same "
            "command with --labels labels.csv."
        )
    print(printable(advice))


def _check(options: argparse.Namespace) -> None:
    """Raise unless the options go together."""
    for name, value in (("--suggestions", options.suggestions), ("--image-size", options.image_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if options.features is None and options.imports:
        raise ValueError("--import is for the network of --features; give that, or leave it out.")
    require_there(options.photos)
    require_outside(options.out, options.photos)
    if options.labels is not None and options.labels.resolve().parent == options.out.resolve():
        raise ValueError(
            f"--labels must lie outside of the work's folder, whose tables are written anew, got {options.labels}; "
            "copy it."
        )


def _given_network(options: argparse.Namespace) -> Network | None:
    """Return the network of --features, None if it is not given."""
    if options.features is None:
        return None
    network = load_network(options.features, options.imports, options.previous, options.device)
    size = side_of(network)
    if options.image_size not in (None, size):
        raise ValueError(f"--image-size must be {size}, as the network of --features takes, got {options.image_size}.")
    options.image_size = size
    return network


def side_for(network: Network | None) -> Callable[[int], None]:
    """Return what raises ValueError for a side of photos that they cannot be read with for a network.

    network: of --features; None: the dictionary, which learns from them.
    """
    if network is not None:
        return partial(require_squares, network)

    def require(side: int) -> None:
        if side < SMALLEST:
            raise ValueError(
                f"photos must be squares of {SMALLEST} pixels a side or more for the dictionary to learn from, here "
                f"they are of {side}; give --image-size, or --features of another network."
            )

    return require


def range_for(network: Network | None, options: argparse.Namespace) -> int | None:
    """Return which value of 16-bit images is white for the network of --features; None: not known, or there is none."""
    return None if network is None else learned_range(network, options.features)


def _in_work(options: argparse.Namespace, network: Network | None, stages: Stages) -> tuple[Labels, Model | None]:
    """Do all stages that are not done yet; returns the labels, and the model that was made from them, if one was."""
    work = options.out
    table = table_of(options)
    photos = read_photos(
        options.photos, work / IMAGES, size=options.image_size, split=options.split,
        without_labels=table is not None, stages=stages, check=side_for(network),
        value_range=range_for(network, options),
    )  # fmt: skip
    with photos.stream() as stream:
        names = list(stream.names)
        require_several(names)
        labels = Labels.of(stream.labels, stream.class_names) if table is None else table.labels(names, photos.left_out)
        require_taken_over(work, names, labels)
        require_search(labels.numbers, devices.resolve("classify", options.device))
        if table is None and is_photos(options.photos) and not (labels.numbers < 0).any():
            stages.say(
                "labels",
                "all images have one, that of their folder; if folders are no classes, give --labels a table, for a "
                "start one of the line file,label alone",
            )
        if network is None:
            network = learned(photos, options, stages)
        return labels, classified(
            work, network, stream, labels, mirror=options.mirror, prior=options.prior, suggestions=options.suggestions,
            listener=stages, skipped=photos.left_out,
        )  # fmt: skip


def learned(photos: Photos, options: argparse.Namespace, stages: Stages) -> Network:
    """Return the dictionary of the photos, learned in the folder of the work unless it is there.

    Raises ValueError if the work's features are of a network of --features.
    """
    run, left = options.out / LEARNED, Left()
    if (options.out / FEATURES).exists() and not checkpoint.checkpoints(run):
        raise ValueError(f"{options.out / FEATURES} holds features of a network of --features: give that again")

    def show(record: Record) -> None:
        seconds = record["seconds_left"]
        stages.say("network", f"learning{'' if seconds is None else f', {clock(left.smoothed(seconds))} left'}")

    with photos.stream(shuffle=True) as shuffled:
        return learned_network(shuffled, run, options.device, options.previous, show)
