"""`hebbcore predict`: labels for new images, by the model that `hebbcore classify` made."""

import argparse
import shutil
from pathlib import Path

from hebbcore.checks import printable
from hebbcore.cli.classify import add_split, require_outside, require_there, side_of
from hebbcore.cli.options import add_import
from hebbcore.cli.photos import read_photos
from hebbcore.cli.stages import Stages
from hebbcore.engine import devices
from hebbcore.files import locked_file
from hebbcore.labelling.guesses import Guesses
from hebbcore.labelling.model import check_images, load_model
from hebbcore.labelling.tables import NEW, write_table
from hebbcore.runs.imports import import_modules


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `predict` command to a command line."""
    command = commands.add_parser(
        "predict",
        description="Give new images labels, by the model that hebbcore classify made: file, label, confidence and "
        "second choice, as CSV.",
    )
    command.add_argument("model", type=Path, metavar="work", help="folder of the work, or a copy of its model/")
    command.add_argument("photos", type=Path, help="images, as for hebbcore classify")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV file to write")
    add_split(command)
    command.add_argument(
        "--device", choices=devices.CHOICES, default="auto", help="where to compute (default: CUDA if it works)"
    )
    add_import(command)
    command.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    import_modules(options.imports)
    model, stages, out = load_model(options.model, device=options.device), Stages(), options.out
    require_there(options.photos)
    require_outside(out, options.photos)
    if out.is_dir():
        raise IsADirectoryError(f"--out must be a CSV file, {out} is a folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    read = out.with_name(f".{out.name}.images")  # until the file is written: a command that was killed goes on
    with locked_file(out, "predicting into"):
        photos = read_photos(
            options.photos, read, size=side_of(model.network), split=options.split, without_labels=True, stages=stages
        )
        with photos.stream() as stream:
            check_images("predict", model, stream.image_shape)
            rows: list[tuple[str, str, float, str]] = []
            for images, _ in stream:
                stages.tell("labels", len(rows), stream.images)
                names = stream.names[len(rows) : len(rows) + len(images)]
                rows += Guesses.of(model.predict_proba(images)).rows(names, model.classes)
            stages.tell("labels", len(rows), stream.images)
            write_table(out, NEW, rows)
        shutil.rmtree(read, ignore_errors=True)
    print(printable(f"{out}: labels of {len(rows)} images"))
    return 0
