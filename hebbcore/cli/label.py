"""`hebbcore label`: label photos on a page in the browser, which learns meanwhile."""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hebbcore.checks import printable
from hebbcore.cli.classify import (
    add_work,
    begun,
    learned,
    of_other_images,
    range_for,
    require_several,
    side_for,
    table_of,
)
from hebbcore.cli.photos import Photos, read_photos
from hebbcore.cli.stages import Stages
from hebbcore.cli.tables import Table, names_in_tables, only_in_next
from hebbcore.engine import devices
from hebbcore.files import cannot_write, locked
from hebbcore.labelling.work import FOLLOWING, IMAGES, Labels, require_search
from hebbcore.network import Network
from hebbcore.page.store import LABELS, Store, naming
from hebbcore.streams import identity_of
from loaders.tables import matched

if TYPE_CHECKING:
    from hebbcore.page.board import Board
    from hebbcore.page.serve import Address
    from hebbcore.page.teacher import WorkTeacher

_SWITCH = 5e-4  # seconds, after which the learner gives way to a request; a click asks for its turn several times
THUMBS, ENTRY = "thumbs", "open.html"  # in the folder of the work
_LEADS = '<!doctype html><meta http-equiv="refresh" content="0; url='  # how the latter begins


def add_label(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `label` command to a command line."""
    command = commands.add_parser(
        "label",
        description="Show photos on a page in the browser, the most useful first, and take labels for them. Meanwhile "
        "it learns, and guesses the labels of all others. Every label is on the disk at once; the command goes on "
        "where it was when it is run again. It prints the address of the page, and runs until Ctrl-C.",
    )
    add_work(command, "CSV or TSV of file and label to begin with; each table is taken in once")
    command.add_argument(
        "--classes", default="", metavar="A,B,…", help="classes to choose from, with commas; the page can add more"
    )
    command.add_argument(
        "--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1, for this machine alone)"
    )
    command.add_argument("--port", type=int, default=0, help="port to serve on (default: any that is free)")
    command.add_argument("--no-browser", action="store_false", dest="browser", help="do not open a browser")
    command.set_defaults(run=_label)


def _label(options: argparse.Namespace) -> int:
    _require_extra()
    from hebbcore.page.board import checked_name
    from hebbcore.page.serve import Address

    if not 0 <= options.port < 2**16:
        raise ValueError(f"--port must be from 0 to {2**16 - 1}, got {options.port}.")
    classes = [checked_name(name) for name in options.classes.split(",") if name.strip()]
    work, stages = options.out, Stages()
    network = begun(options)
    digest = _digest_of(options.labels)  # before the table is read, which may change while features are learned
    table = table_of(options)
    address = Address(options.host, options.port)
    with address.socket, locked(work, "working in"):
        with of_other_images(work):
            teacher, photos, names = _ready(options, network, stages)
        with naming(work / LABELS):
            board = _board(options, classes, (table, digest), photos, names, stages)
        try:
            _serve(options, address, board, teacher, photos)
        finally:
            board.close()
    return 0


def _digest_of(table: Path | None) -> str:
    return "" if table is None else hashlib.blake2b(table.read_bytes(), digest_size=16).hexdigest()


def _require_extra() -> None:
    """Raise ImportError with advice if the extra is not installed."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(f"hebbcore label needs {error.name}; pip install 'hebbcore[label]' installs it.") from None


def _ready(
    options: argparse.Namespace, network: Network | None, stages: Stages
) -> "tuple[WorkTeacher, Photos, list[str]]":
    """Do the stages up to the features; returns the teacher, the photos and their names."""
    from hebbcore.page.board import require_distinct
    from hebbcore.page.teacher import WorkTeacher

    work = options.out
    photos = read_photos(
        options.photos, work / IMAGES, size=options.image_size, split=options.split, without_labels=True, stages=stages,
        check=side_for(network), value_range=range_for(network, options),
    )  # fmt: skip
    with photos.stream() as stream:
        names = list(stream.names)
    require_several(names)
    require_distinct(names)
    require_search(np.full(len(names), -1), devices.resolve("label", options.device))
    if network is None:
        network = learned(photos, options, stages)
    teacher = WorkTeacher(
        work, network, photos.stream, len(names), options.mirror, options.prior, options.suggestions, stages,
        lambda labels: _require_imported(work, names, labels), photos.left_out,
    )  # fmt: skip
    teacher.rows()
    return teacher, photos, names


def _require_imported(work: Path, names: Sequence[str], labels: Labels) -> None:
    """Raise ValueError, for the page, if next.csv holds labels that the page lacks."""
    if lost := only_in_next(work, names, labels):
        raise ValueError(
            f"{work / FOLLOWING} holds {len(lost)} labels that are not on this page, such as that of {lost[0]}, and "
            "would be written anew without them: import it here, or remove it, and then write the results."
        )


def _board(
    options: argparse.Namespace,
    classes: Sequence[str],
    given: tuple[Table | None, str],
    photos: Photos,
    names: Sequence[str],
    stages: Stages,
) -> "Board":
    """Return the board of the work, with the classes and labels of the options. given: their table and its digest."""
    from hebbcore.page.board import Board, Versions

    table, digest = given
    store = Store(options.out / LABELS)
    try:
        board = Board(names, store, Versions())
        if elsewhere := board.elsewhere:
            stages.say(
                "labels",
                f"{len(elsewhere):,} in {options.out / LABELS} are of photos that are not among these, such as "
                f"{elsewhere[0]}; they are kept there",
            )
        board.add_classes(classes)
        if table is not None and not board.has_imported(digest):
            labels = table.labels(names, photos.left_out)
            known = {i: labels.classes[k] for i, k in enumerate(labels.numbers.tolist()) if k >= 0}
            if replaced := board.take_in(known, digest)[1]:
                stages.say(
                    "labels",
                    f"{len(replaced):,} of the photos had another label on the page, such as {names[replaced[0]]}; "
                    f"they have that of {options.labels} now. z on the page takes it back",
                )
    except BaseException:
        store.close()
        raise
    return board


class Tables:
    """Reads tables of labels; see hebbcore.page.app."""

    def __init__(self, names: Sequence[str], photos: Path) -> None:
        self._names, self._folder = names_in_tables(names, photos)

    def read(self, data: bytes) -> tuple[dict[int, str], int, list[str], list[str]]:
        """See hebbcore.page.app."""
        return matched(data, self._names, self._folder)


def _serve(
    options: argparse.Namespace, address: "Address", board: "Board", teacher: "WorkTeacher", photos: Photos
) -> None:
    """Serve the page until an interrupt."""
    from hebbcore.cli.pictures import pictures_of
    from hebbcore.page.app import Page
    from hebbcore.page.learner import Learner
    from hebbcore.page.serve import serving
    from hebbcore.page.thumbs import Thumbs

    learner, pictures = Learner(board, teacher), pictures_of(photos, board.names)
    thumbs, tables = Thumbs(options.out / THUMBS, pictures), Tables(board.names, options.photos)
    page = Page(board, learner, pictures, thumbs, tables, _identity(photos, board.names))
    entry = options.out / ENTRY
    _forget(entry)  # of a command that was killed
    sys.setswitchinterval(_SWITCH)
    learner.start()
    try:
        with serving(page.application(), address, page.end, lambda: _forget(entry)) as url:
            if options.browser:
                _open(url, entry)
            print(printable(url), flush=True)
            address.ended.wait()  # until an interrupt
            raise RuntimeError("the server has ended by itself; what it answered is on the disk.")
    finally:
        learner.end()
        _forget(entry)


def _identity(photos: Photos, names: Sequence[str]) -> str:
    """Return what tells the photos from those of another set, also of the same names."""
    with photos.stream() as stream:
        described = json.dumps([identity_of(stream), list(names)])
    return hashlib.blake2b(described.encode(), digest_size=16).hexdigest()


def _forget(entry: Path) -> None:
    """Remove the file that led a browser to the page, and no other."""
    with contextlib.suppress(OSError):
        if _LEADS.startswith(entry.read_text("utf-8", "replace")[: len(_LEADS)]):  # a kill may have cut it off
            entry.unlink()


def _open(url: str, entry: Path) -> None:
    """Open a browser, in a thread: one in the terminal would not return.

    It is given a file that leads to the address: all users of the machine see what a program is started with. The file
    is removed once a browser has come by it, so that none leads to a server that was killed.
    """
    import webbrowser

    text = f'{_LEADS}{url}"><a href="{url}">Go on</a>\n'
    try:
        with open(os.open(entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(entry, error) from error
    threading.Thread(target=webbrowser.open, args=(entry.resolve().as_uri(),), daemon=True).start()
