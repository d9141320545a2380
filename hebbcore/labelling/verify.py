"""Whether a work folder holds what was written: the model, and results that are complete and of that model."""

import csv
from pathlib import Path

from hebbcore import checkpoint, hdf5, serialize
from hebbcore.features import storage
from hebbcore.labelling.done import DONE, digest_of_file, read_done
from hebbcore.labelling.model import FOLDER, NETWORK, NOTE, read_model, read_note
from hebbcore.labelling.work import FEATURES, FOLLOWING, OUTPUTS, PREDICTED


def files_of_work(path: Path) -> list[Path]:
    """Return what there is to verify in a work folder, or in a model's, besides features; none if it is neither."""
    notes = [folder / NOTE for folder in (path, path / FOLDER)]
    found = [file for note in notes if note.is_file() for file in (note, *sorted(note.parent.glob("*.h5")))]
    results = any((path / name).exists() for name in (DONE, *OUTPUTS)) and (path / FEATURES).exists()
    return [*found, path / DONE] if results else found


def state_of_model(note: Path) -> str:
    """Return the state of a model in words. Raises ValueError or FileNotFoundError unless its parts belong together."""
    folder = note.parent
    read_note("verify", folder)
    if not (folder / NETWORK).is_file():
        raise FileNotFoundError(f"verify: {folder / NETWORK} is missing; copy the folder anew.")
    header, _ = checkpoint.read("verify", folder / NETWORK)
    with checkpoint.naming("verify", folder / NETWORK, "does not hold a network of this version"):
        unknown = serialize.unknown_kinds(header)
    if unknown:
        return (
            f"readable; it needs the {unknown}, which no imported module has registered: whether its parts belong "
            "together is told with --import MODULE"
        )
    classes = len(read_model("verify", folder, "cpu").classes)
    return f"sound, a model of {classes} classes whose network and classifier are those that it names"


def state_of_results(done: Path) -> str:
    """Return the state of a work's results in words. Raises ValueError if they are not what was written."""
    work = done.parent
    if not done.exists():
        raise ValueError(f"verify: {done} is missing, so results are not complete; run the same hebbcore classify.")
    made_from, digests = read_done(work)
    edited = False
    for name in digests or OUTPUTS:
        if not (work / name).is_file():
            raise ValueError(f"verify: {work / name} is missing; run the same hebbcore classify.")
        differs = name in digests and digest_of_file(work / name) != digests[name]
        if differs and name != FOLLOWING:  # which is for labels of the user's
            raise ValueError(f"verify: {work / name} is not what was written; remove it, and classify writes it anew.")
        edited |= differs
    if PREDICTED in (digests or OUTPUTS):
        if read_note("verify", work / FOLDER)["made_from"] != made_from:
            raise ValueError(
                f"verify: {work / FOLDER} is not the model of the results; run the same hebbcore classify."
            )
        _require_all_images(work)
    if not digests:
        return "complete, but without digests: an earlier version wrote it"
    return f"results are sound{f'; {FOLLOWING} was changed since' if edited else ''}"


def _require_all_images(work: Path) -> None:
    """Raise ValueError unless the predictions are of the images that have features."""
    with (work / PREDICTED).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        predicted = [row[0] for row in csv.reader(file)][1:]
    hdf5.check("verify", work / FEATURES, "features", storage.VERSION)
    with hdf5.reading(work / FEATURES, f"verify: {work / FEATURES} holds no features") as file:
        count = len(hdf5.member(file, "features"))
        names = hdf5.member(file, "names").asstr(errors="surrogateescape")[:].tolist() if "names" in file else None
    if len(predicted) != count or names not in (None, predicted):
        raise ValueError(
            f"verify: {work / PREDICTED} is of other images than {work / FEATURES}: {len(predicted)} there and {count} "
            "here; run the same hebbcore classify."
        )
