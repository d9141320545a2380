"""`hebbcore train`: train the network of a configuration file into a folder."""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import loaders
from hebbcore import checkpoint, checks, serialize, streams
from hebbcore.checks import printable
from hebbcore.cli import together
from hebbcore.cli.networks import require_squares, side_of
from hebbcore.cli.options import add_import, add_set
from hebbcore.cli.photos import as_shards, is_photos, say_side, shape_at, side_begun, splits_at
from hebbcore.cli.progress import line_of
from hebbcore.cli.sources import is_shards, read_arrays, some_labels
from hebbcore.cli.stages import Stages
from hebbcore.dictionary import SMALLEST
from hebbcore.engine import parallel
from hebbcore.files import locked_until_taken, make_folder, write_text
from hebbcore.labelling.work import IMAGES
from hebbcore.network import Network
from hebbcore.presets import DERIVED
from hebbcore.runs.config import Config, read_config
from hebbcore.serialize import CONFIG
from hebbcore.texts import plain
from hebbcore.training.batches import as_batches, is_array
from hebbcore.training.diagnostics import METRICS, Record, dead_texts
from hebbcore.training.network import fit
from hebbcore.training.record import is_from_python, is_of_a_run
from hebbcore.training.settings import LEARNING_RATE, NO_SAMPLE, listed, may_change
from hebbcore.training.teacher import who_needs_labels

_SETTING = "data.image_size"  # of photos
_LARGER = 8  # sevenths of the size of random crops that photos are read in


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `train` command to a command line."""
    train = commands.add_parser(
        "train",
        description="Train the network of a configuration file into a folder. An interrupted training goes on when the "
        "same command is run again. The folder gets checkpoints/, metrics.jsonl and config.json.",
    )
    train.add_argument("config", type=Path, help="TOML file; docs/reference/configuration.md tells the keys")
    train.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the run")
    add_set(train)
    add_import(train)
    train.add_argument(
        "--previous", action="store_true", help="if the latest checkpoint is damaged, go on from the one before"
    )
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    config = read_config(options.config, options.changes, options.imports)
    config.check()
    terminal = sys.stderr.isatty()
    network = train_into(options.out, config, options.previous, terminal, None if terminal else _print)
    if not together.is_first():
        return 0
    print(printable(f"{options.out}: done; {checkpoint.checkpoints(options.out)[-1]} holds the network"))
    print(network.summary())
    for text in dead_texts(options.out / METRICS):
        print(f"{plain(text)} {_advice(config)} may help.")
    return 0


def _advice(config: Config) -> str:
    """Return what may help where many units win nothing, of all that the configuration has not yet and takes."""
    if config.network.preset == DERIVED:  # which has all else
        return "Fewer network.units"
    ways = []
    if any(layer.initial_weights == "rule" for layer in config.learners()):
        ways.append('initial_weights = "patches" of the layer')
    if not any(table["type"] == "whiten" for table in serialize.flat(config.layer_tables())):
        ways.append('network.preprocess = "whiten"' if config.network.preset else "a layer whiten before the others")
    return ", ".join([*ways, "or fewer units"]) if ways else "Fewer units"


def train_into(
    run: Path,
    config: Config,
    previous: bool,
    progress: bool,
    callback: Callable[[Record], None] | None,
    shared: Path | None = None,
) -> Network:
    """Train the network of a configuration into a folder, or go on with it; see fit. Returns the network.

    shared: a folder where images of files are read for several runs; None: they are read into the run's.
    """
    given = config
    shape = together.by_first("train", lambda: made_for_images(given, run).network.image_shape)
    if given.network.preset == DERIVED and given.network.image_shape is None:
        config = replace(given, network=replace(given.network, image_shape=shape))
    network = config.make_network()
    together.by_first("train", lambda: _is_begun(run, config))  # before photos are read, which may take long
    data, labels = _open(config, network, run, shared)
    settings = dataclasses.asdict(config.training)
    settings["sample"] = settings["sample"] or NO_SAMPLE  # else the preset's would be taken
    if not is_array(data):
        del settings["batch_size"], settings["shuffle"]  # the stream has them
    if not settings.get("shuffle") and config.training.sample is None:
        del settings["seed"]  # it draws the weights alone, and what the stream draws
    with contextlib.ExitStack() as held:  # so that the configuration is that of the process which trains
        before = together.by_first("train", lambda: _kept(held, run, config))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "fit: .* won none of the .* patches")  # told at the end, in a line
                return fit(
                    network, data, labels=labels, run=run, previous=previous, progress=progress, callback=callback,
                    group=together.group(), **settings,
                )  # fmt: skip
        except ValueError as error:  # such as other images than the run's
            if together.is_first():
                _put_back(run, before)
            if checks.about(error).argument == "data":
                raise ValueError(f"{error} The data are {config.data.path}.") from None
            raise


def made_for_images(config: Config, run: Path) -> Config:
    """Return a configuration that says for which images its network is made, if the preset is made for any.

    These are those of the run where it has begun, else those of the data: photos of data.image_size, or of the side
    that is chosen from them, as without a preset.
    """
    network, data, path = config.network, config.data, Path(config.data.path)
    if network.preset != DERIVED or network.image_shape is not None:
        return config
    begun = _stored(run / CONFIG).network if _is_kept(run) else None
    if begun is None and data.image_size is not None and data.image_size < SMALLEST:
        raise ValueError(
            f"config: {_SETTING} must be {SMALLEST} or more for the preset {DERIVED!r}, which is made for it, got "
            f"{data.image_size}."
        )
    shape: Sequence[int] | None
    if begun is not None:
        shape = begun.image_shape or begun.make_layers()[1]  # as earlier versions, which made it for one size
    elif not path.exists():  # which will be said
        return config
    elif (side := data.image_size or (side_begun(run / IMAGES) if is_photos(path) else None)) is not None:
        stored = shape_at(path, data.split) if is_shards(path) else None
        shape = (side, side, 3 if stored is None else stored[2])
    else:
        shape = shape_at(path, data.split, partial(say_side, Stages(), _SETTING))
    if shape is None or len(shape) != 3:  # fit says what images must be
        return config
    return replace(config, network=replace(network, image_shape=list(shape)))


def _is_kept(run: Path) -> bool:
    """Return whether a run has begun, and its configuration tells its network."""
    path = run / CONFIG
    return path.exists() and bool(checkpoint.checkpoints(run)) and not is_from_python(path)


def _open(config: Config, network: Network, run: Path, shared: Path | None) -> tuple[Any, Any]:
    """Return the training images, a stream or an array, and the labels of an array, where a layer learns from them."""
    data, training = config.data, config.training
    path, labelled = Path(data.path), bool(who_needs_labels(network, training.teacher))
    if not path.exists() and checkpoint.checkpoints(run):
        raise FileNotFoundError(
            f"{path} does not exist, and {run} learns from it; if the images have moved, --set data.path=… says where."
        )
    if is_shards(path) or is_photos(path):
        part = data.split if data.split in splits_at(path) else None
        if data.split != "train" and part is None:
            what = f"{'a folder' if path.is_dir() else 'an archive'} of {'images' if is_photos(path) else 'shards'}"
            raise ValueError(f"config: data.split is for HDF5 files; {path} is {what}, which is one split.")
        if data.labels is not None:
            raise ValueError(f"config: data.labels is for HDF5 files; {path} is a folder, whose labels all count.")
        random = data.crop == "random" and data.image_size is not None
        size = side_of(network) if data.image_size is None else data.image_size
        stored, photos = _LARGER * size // 7 if random and size else size, path
        place = _place_of_images(run, shared, [str(photos.resolve()), stored, part])

        def check(side: int) -> None:
            side = data.image_size or side  # that of random crops, which photos are larger than
            advice = f" Set network.image_shape=[{side}, {side}, 3], or data.image_size to what the network takes."
            require_squares(network, side, advice)

        path = together.by_first("train", lambda: as_shards(photos, place, stored, part, check, setting=_SETTING))
        stream = loaders.ShardStream(
            path, batch_size=training.batch_size, shuffle=training.shuffle, subset=data.subset,
            seed=config.seed if training.shuffle or random else 0,  # else it draws the weights alone
            image_size=None if random else data.image_size, labels=labelled,
            transform=loaders.RandomResizedCrop(data.image_size) if random and data.image_size else None,
            threads=parallel.cores(),
        )  # fmt: skip
        return stream, None
    if data.image_size is not None:
        raise ValueError(
            f"config: data.image_size is for shards; {path} is a file of arrays, which are taken as they are: leave it "
            "out, or make shards (hebbcore shards build)."
        )
    images, labels = read_arrays(path, data.split, data.subset)
    return images, some_labels(path, labels, data.labels) if labelled else None


def _place_of_images(run: Path, shared: Path | None, which: list[Any]) -> Path:
    """Return the folder where images of files are read. which: tells them from those of other runs, as JSON types."""
    own = run / IMAGES
    if shared is None or own.exists():  # of a run that was begun by itself
        return own
    return shared / f"images-{hashlib.blake2b(json.dumps(which).encode(), digest_size=4).hexdigest()}"


def _kept(held: contextlib.ExitStack, run: Path, config: Config) -> str | None:
    """Do what _keep does, and hold the folder for the training that follows."""
    make_folder(run)
    held.enter_context(locked_until_taken(run, "training into"))
    return _keep(run, config)


def _keep(run: Path, config: Config) -> str | None:
    """Store the effective configuration with the run; return the one before: "" if the run has lost it, None if it is
    new.

    Raises ValueError if the run has another.
    """
    path = run / CONFIG
    before = path.read_text("utf-8") if _is_begun(run, config) else "" if checkpoint.checkpoints(run) else None
    text = json.dumps(config.table(), indent=2) + "\n"
    if text != before:
        write_text(path, text)
    return before


def _put_back(run: Path, before: str | None) -> None:
    """Let a run that goes on with another configuration have the one before again; see _keep."""
    if before:
        write_text(run / CONFIG, before)
    elif before is not None:
        (run / CONFIG).unlink()


def _is_begun(run: Path, config: Config) -> bool:
    """Return whether a run has begun, and goes on. Raises ValueError if another configuration lies there."""
    path = run / CONFIG
    begun = path.exists() and bool(checkpoint.checkpoints(run))
    if begun:
        require_same("train", run, config)
    elif path.exists() and not is_of_a_run(path):
        raise ValueError(
            f"train: {path} is no configuration of a run, and would be replaced; name another --out, or move the file."
        )
    return begun


def require_same(function: str, run: Path, config: Config) -> None:
    """Raise ValueError if a run has another configuration, apart from what may change when a training goes on.

    The configuration of a training from Python names no preset and is not compared here: fit itself compares layers,
    settings and images.
    """
    path = run / CONFIG
    if not path.exists() or is_from_python(path):
        return
    stored, training = _stored(path), config.table()["training"]
    free, layerwise = may_change(training), training["mode"] == "layerwise"
    networks = _networks(config, stored, layerwise)
    here, there = (
        _fixed({**each.table(), "network": network}, free)
        for each, network in zip((config, stored), networks, strict=True)
    )
    different = serialize.differences(here, there)
    if different:
        raise ValueError(
            f"{function}: {run} is a run of another configuration: {listed(different)}; name another --out."
        )


class SameData:
    """Compares the images and labels of configurations with those that finished runs have learned from.

    function: what messages begin with. shared: see train_into.
    """

    def __init__(self, function: str, shared: Path | None = None) -> None:
        self._function, self._shared = function, shared
        self._known: dict[str, dict[str, Any]] = {}  # what tells data from others, by what of a configuration decides

    def require(self, run: Path, config: Config) -> None:
        """Raise ValueError if a run has learned from other data."""
        theirs = checkpoint.header_of(self._function, checkpoint.checkpoints(run)[-1]).get("data") or {}
        mine = self._identity(run, config)
        ours, those = streams.told_apart_by(mine, theirs), streams.told_apart_by(theirs, mine)
        different = serialize.differences(ours, those, "data")
        if different:
            raise ValueError(
                f"{self._function}: {run} has learned from other images or labels than {config.data.path} holds now: "
                f"{'; '.join(different)}; name another --out."
            )

    def _identity(self, run: Path, config: Config) -> dict[str, Any]:
        network, s = config.make_network(), config.training
        learner = who_needs_labels(network, s.teacher)
        place = str(run) if (run / IMAGES).exists() else None  # where images of files lie, and how large they are
        images = [config.table()["data"], place, side_of(network)]
        key = json.dumps([images, s.batch_size, s.shuffle, config.seed, learner])
        if key not in self._known:
            data, labels = _open(config, network, run, self._shared)
            order = np.random.default_rng(config.seed) if s.shuffle else None
            batches = as_batches(self._function, data, s.batch_size, order, s.epochs, False, labels, learner)
            self._known[key] = batches.identity()
        return self._known[key]


def _stored(path: Path) -> Config:
    try:
        return read_config(path)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"train: {path} is no configuration of a run ({error}); restore it, or remove it and train writes it anew."
        ) from None


def _networks(here: Config, there: Config, layerwise: bool) -> list[dict[str, Any]]:
    """Return two networks as tables to be compared: a default that is written out is none that is left out.

    layerwise: whether the training goes on layer by layer.
    """
    whole = [each.whole_network() for each in (here, there)]
    given = [each.table()["network"] for each in (here, there)]
    if layerwise:  # of any, it had no effect
        whole, given = serialize.without("momentum", whole), serialize.without("momentum", given)
    if None in (whole[0]["image_shape"], whole[1]["image_shape"]):  # it is that of the images, which fit compares
        whole, given = ([{**each, "image_shape": None} for each in tables] for tables in (whole, given))
    if whole[0] == whole[1]:
        return [{}, {}]
    return whole if here.network.preset is None and there.network.preset is None else given


def _fixed(table: dict[str, Any], free: set[str]) -> dict[str, Any]:
    """Return the part of a configuration that must stay when a training goes on. Images may move: fit compares them.

    free: settings of the training that may change.
    """
    data = {key: value for key, value in table["data"].items() if key != "path"}
    training = {key: value for key, value in table["training"].items() if key not in free}
    if training["learning_rate"] is None:  # as older runs have it
        training["learning_rate"] = LEARNING_RATE
    kept = {key: value for key, value in table.items() if key != "imports"}  # modules may move too
    kept["workspace"] = checks.byte_size("train", "workspace", kept["workspace"])
    return {**kept, "data": data, "training": training}


def _print(record: Record) -> None:
    print(line_of(record, record["seconds_left"]), file=sys.stderr, flush=True)
