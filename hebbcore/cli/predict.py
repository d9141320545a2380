"""`hebbcore predict`: labels for new images, by the model that `hebbcore classify` made."""

import argparse
import hashlib
import json
import shutil
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import hebbcore
from hebbcore import checkpoint, streams
from hebbcore.checks import printable
from hebbcore.cli.classify import add_split, require_outside, require_there
from hebbcore.cli.networks import require_squares, side_of
from hebbcore.cli.options import add_import
from hebbcore.cli.photos import Photos, range_of, read_anew, read_photos
from hebbcore.cli.stages import Stages
from hebbcore.engine import devices
from hebbcore.engine.finite import LARGEST, computable_rows
from hebbcore.files import locked_file, make_folder, write_bytes, write_text
from hebbcore.labelling.done import DONE, digest_of_file
from hebbcore.labelling.growing import GrowingTable, digest_of
from hebbcore.labelling.guesses import Guesses
from hebbcore.labelling.model import Model, check_images, read_model, read_note
from hebbcore.labelling.tables import NEW, lines_of
from hebbcore.labelling.work import FEATURES, IMAGES, OUTPUTS
from hebbcore.page.kept import KEPT
from hebbcore.page.store import LABELS
from hebbcore.runs.imports import import_modules

_OWN = {*OUTPUTS, DONE, FEATURES, KEPT, LABELS}  # files of a work


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `predict` command to a command line."""
    command = commands.add_parser(
        "predict",
        description="Give new images labels, by the model that hebbcore classify made: file, label, confidence and "
        "second choice, as CSV. An interrupted command goes on when it is run again.",
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
    folder = checkpoint.model_folder(options.model) or options.model
    note = read_note("predict", folder)  # first: labels by a model that replaces this one now must not pass for its own
    model, stages, out = read_model("predict", options.model, options.device), Stages(), options.out
    require_there(options.photos)
    require_outside(out, options.photos)
    _require_no_part(out, folder)
    _require_own(out)
    make_folder(out.parent)
    parts = out.with_name(f".{out.name}.parts")  # until the file is written: a command that was killed goes on

    def read() -> Photos:
        size = side_of(model.network)
        return read_photos(
            options.photos, parts / "images", size=size, split=options.split, without_labels=True, stages=stages,
            check=partial(require_squares, model.network),
            value_range=model.value_range or range_of(folder.parent / IMAGES),  # models of earlier versions have none
        )  # fmt: skip

    with locked_file(out, "predicting into"):
        photos = read_anew(parts, read)
        with photos.stream() as stream:
            check_images("predict", model, stream.image_shape)
            table = GrowingTable(parts, _digest(note, stream))
            _predict_rest(model, stream, table, stages)
            _write(out, table.whole(NEW))
        shutil.rmtree(parts, ignore_errors=True)
    print(printable(f"{out}: labels of {table.rows} images"))
    return 0


def _require_no_part(out: Path, model: Path) -> None:
    """Raise ValueError if the table would replace a file of the model, or of the work around it."""
    file, folder = out.resolve(), model.resolve()
    is_of_work = file.parent == folder.parent and file.name in _OWN and (folder.parent / DONE).exists()
    if file.is_relative_to(folder) or is_of_work:
        raise ValueError(f"--out must not be a file of the model or of its work, got {out}; name another.")


def _require_own(out: Path) -> None:
    """Raise unless the table is new, or takes the place of an earlier one as that was written; a table of labels may be
    all there is.
    """
    if out.is_dir():
        raise IsADirectoryError(f"--out must be a CSV file, {out} is a folder.")
    if out.is_file():
        head = lines_of([NEW])
        with out.open("rb") as file:
            found = file.read(len(head))
        if found not in (head, b""):
            raise FileExistsError(
                f"--out must be a new file, or one that predict wrote; {out} holds something else: name another, or "
                "remove it."
            )
        mark = _mark(out)  # tables of earlier versions have none
        if found and mark.is_file() and digest_of_file(out) not in mark.read_text("utf-8", "replace").split():
            raise FileExistsError(
                f"--out {out} was changed since predict wrote it, and would be written anew: copy it, if you want to "
                "keep that, and remove it; or name another."
            )


def _mark(out: Path) -> Path:
    """Return the file that holds the digest of a table as it was written, and as it was before."""
    return out.with_name(f".{out.name}.digest")


def _write(out: Path, table: bytes) -> None:
    """Write the table, and first what tells it from one that was changed."""
    _require_own(out)  # it may have been changed meanwhile
    before = digest_of_file(out) if out.is_file() else ""
    write_text(_mark(out), f"{before}\n{digest_of(table)}\n".lstrip())
    write_bytes(out, table)


def _digest(note: dict[str, Any], stream: Any) -> str:
    """Return a digest of all that decides the rows. note: of the model."""
    described = [hebbcore.__version__, note, streams.identity_of(stream), stream.batch_size]
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()


def _predict_rest(model: Model, stream: Any, table: GrowingTable, stages: Stages) -> None:
    """Add the rows of the images that were not looked at yet; those of which nothing can be computed are left out."""
    stages.tell("labels", table.images, stream.images)
    if table.images == stream.images:
        return
    names = stream.names
    stream.restore(streams.at(stream.state(), 0, table.batches))
    for images, _ in stream:
        some, sound = names[table.images : table.images + len(images)], computable_rows(images)
        for name in compress(some, ~sound):
            stages.say("left out", f"{name} (NaN, infinity or more than {LARGEST:g} among its pixels)")
        guesses = Guesses.of(model.predict_proba(images[sound])) if sound.any() else None
        table.add(guesses.rows(list(compress(some, sound)), model.classes) if guesses else (), len(images))
        stages.tell("labels", table.images, stream.images)
