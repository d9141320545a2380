"""`hebbcore verify`: are the files of runs and extractions what was written?"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hebbcore import checkpoint, hdf5, safetensors
from hebbcore.checks import printable
from hebbcore.cli.options import RESULTS, add_import
from hebbcore.features import formats, storage
from hebbcore.files import parse_json
from hebbcore.labelling.done import DONE
from hebbcore.labelling.model import CLASSIFIER, NOTE, VERSION
from hebbcore.labelling.verify import files_of_work, state_of_model, state_of_results
from hebbcore.labelling.work import IMAGES, LEARNED
from hebbcore.page import kept
from hebbcore.page.store import LABELS, check_store
from hebbcore.runs import entries
from hebbcore.runs.config import config_of
from hebbcore.runs.imports import import_modules
from hebbcore.serialize import CONFIG, compared, layer_of, layer_table
from hebbcore.training import diagnostics
from hebbcore.training.array_batches import is_of_an_array
from hebbcore.training.diagnostics import METRICS
from hebbcore.training.settings import LEARNING_RATE, may_change

_INDEX = "index.json"  # of shards that are finished
_SEALED = {CLASSIFIER: VERSION, kept.SPACE: kept.VERSION}
_NO_DIGEST = "readable, but has no digest: an earlier version wrote it"


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `verify` command to a command line."""
    verify = commands.add_parser(
        "verify",
        description="Read files of hebbcore and compare them with the digests that were written with them: the "
        "checkpoints, metrics.jsonl and config.json of a run, results.json of an evaluation, sweep.json and the runs "
        "of a sweep, images that these were given as image files, files of hebbcore.save and of hebbcore extract, and "
        "the work of hebbcore classify and label: model, features, results, network, labels. The exit status is 1 if "
        "any is damaged. For shards, use hebbcore shards verify.",
    )
    verify.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="folder of a run, of features or of a work, or a file"
    )
    add_import(verify)
    verify.set_defaults(run=_verify)


def _verify(options: argparse.Namespace) -> int:
    import_modules(options.imports)  # which a model may need
    damaged = 0
    paths = [path for place in options.paths for path in _files(place)]
    for path in paths:
        try:
            text = f"{path}: {_state(path)}"
        except (OSError, ValueError) as error:
            damaged += 1
            text = str(error)
        print(printable(text))
    print(f"files: {len(paths)}, damaged: {damaged}")
    return 1 if damaged else 0


def _files(path: Path) -> Iterator[Path]:
    """Yield what there is to verify. Raises FileNotFoundError if there is nothing."""
    if not path.exists():
        raise FileNotFoundError(f"verify: {path} does not exist.")
    if path.is_file() or formats.format_of(path) is not None:
        yield path
        return
    texts = [path / name for name in (CONFIG, METRICS, RESULTS, entries.RESULTS) if (path / name).exists()]
    work = [*files_of_work(path), *path.glob(LABELS)]
    found = [
        *checkpoint.checkpoints(path),
        *texts,
        *work,
        *(one for one in sorted(path.glob("*.h5")) if one not in work),
        *(one for one in sorted(path.iterdir()) if not one.name.startswith(".") and _is_of_features(one)),
    ]
    if not found:
        raise FileNotFoundError(
            f"verify: {path} is no folder of a run, an evaluation, a sweep, features or a work; hebbcore shards verify "
            "is for shards."
        )
    yield from found
    if work and (path / IMAGES).is_dir():
        yield path / IMAGES
    elif texts:  # images that a run, an evaluation or a sweep was given as image files
        places = (path / IMAGES, *sorted((path / IMAGES).glob("*")), *sorted(path.glob(f"{IMAGES}-*")))
        yield from (one for one in places if (one / _INDEX).exists())
    if work and (path / LEARNED).is_dir():
        yield from _files(path / LEARNED)
    if path / entries.RESULTS in texts:
        for run in sorted(path.iterdir()):
            if (run / CONFIG).exists():
                yield from _files(run)


def _is_of_features(path: Path) -> bool:
    """Return whether a path seems to be of features in another format than HDF5."""
    return (path.is_dir() or path.suffix == ".parquet") and formats.format_of(path) is not None


def _state(path: Path) -> str:
    """Return the state of a file in words. Raises ValueError if it is damaged or none of hebbcore's."""
    if formats.format_of(path) is not None:
        formats.verify("verify", path)
        return "sound"
    if path.is_dir():
        return _state_of_shards(path)
    if path.name == CONFIG:
        return _state_of_config(path)
    if path.name == METRICS:
        without = diagnostics.without_checksum(path)
        return f"sound, but {without} lines have no checksum: an earlier version wrote them" if without else "sound"
    if path.name == RESULTS:
        from hebbcore.evaluation.book import read_results  # not before: it loads scikit-learn

        return "sound" if read_results(path).digest is not None else _NO_DIGEST
    if path.name == entries.RESULTS:
        entries.read_entries(path)
        return "sound"
    if path.name == NOTE:
        return state_of_model(path)
    if path.name == DONE:
        return state_of_results(path)
    if path.name == LABELS:
        check_store(path)
        return "sound"
    if path.suffix == safetensors.SUFFIX:
        safetensors.read("verify", path)
        return "readable; the format has no digest"
    for what, version in _SEALED.items():
        if hdf5.seal_of(path, what) is not None:
            hdf5.check("verify", path, what, version)
            return "sound"
    if hdf5.is_plain(path) or hdf5.seal_of(path, "features") is not None:
        return "sound" if storage.verify(path) else _NO_DIGEST
    checkpoint.read("verify", path)
    return "sound"


def _state_of_shards(path: Path) -> str:
    import loaders  # not before: few runs have images of their own

    for damage in loaders.verify_shards(path):
        raise ValueError(
            f"verify: {path} is damaged: {damage.shard}: {damage.reason}; hebbcore shards verify tells all."
        )
    return "sound"


def _state_of_config(path: Path) -> str:
    """Compare network and training of a configuration with those of the run's latest sound checkpoint."""
    try:
        table = parse_json(path.read_bytes())
        training = {"seed": table["seed"], **table["training"]}
        dict(table["network"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"verify: {path} is damaged or no configuration of a run ({error}).") from None
    for latest, header in _latest_sound(path.parent):
        with checkpoint.naming("verify", latest, "is no checkpoint of a training"):
            theirs = header["training"]
            free = may_change(theirs)
            if not is_of_an_array(header["data"]):
                free |= {"batch_size", "shuffle"}  # these are the stream's
            if not theirs["shuffle"] and theirs.get("sample") is None:  # of an array
                free.add("seed")  # which draws the weights alone, and what the stream draws
            for settings in (training, theirs):
                settings["learning_rate"] = settings.get("learning_rate") or LEARNING_RATE  # what None means
            wrong = [f"training.{key}" for key in theirs if key not in free and training.get(key) != theirs[key]]
            wrong += _of_the_network(table, header)
        if wrong:
            of_preset = wrong[0].startswith("network.layers") and table["network"].get("preset") is not None
            other = ", or its preset is one of another version of hebbcore" if of_preset else ""
            raise ValueError(f"verify: {path} is damaged{other}: {wrong[0]} is not what {latest} says.")
        return f"readable, and network and training are those of {latest.name}"
    return "readable"


def _latest_sound(run: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the latest checkpoint of a run that is sound, and its header; damaged ones are named where they stand."""
    for path in reversed(checkpoint.checkpoints(run)):
        try:
            header, _ = checkpoint.read("verify", path)
        except ValueError:
            continue
        yield path, header
        return


def _of_the_network(table: dict[str, Any], header: dict[str, Any]) -> list[str]:
    """Return which keys of a configuration are not those of a checkpoint's network."""
    found = [key for key in ("seed", "precision") if table.get(key) != header[key]]
    shape = table["network"].get("image_shape")
    if shape is not None and list(shape) != header["image_shape"]:
        found.append("network.image_shape")
    try:
        config = config_of({"data": {"path": "of no matter here"}, "network": table["network"]})
        mine = config.layer_tables()
        theirs = [layer_table("verify", layer_of(layer, "layers")) for layer in header["layers"]]
    except (TypeError, ValueError):
        return found if table.get("imports") else [*found, "network"]  # verify imports no rules of the user's own
    ours, those = (json.loads(checkpoint.as_json(tables)) for tables in (mine, theirs))
    return found + [path for path, _ in compared(ours, those, "network.layers")]
