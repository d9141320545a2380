"""Files of unknown origin: whatever they claim, reading them ends with an error that names them, in little memory."""

import gzip
import io
import json
import pickle
import random
import shutil
import struct
import tarfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from loaders_helpers import contents, crop, encoded, make_arrays, make_tar, make_tree
from test_loaders_sources import cifar_binary, cifar_python

import loaders
from hebbcore.cli import main
from loaders.images.decode import decode
from loaders.sources.imagenet import read_synsets
from loaders.text import printable

MEMORY = 48 * 2**20  # bytes; every file here has less than 200 KB
ESCAPE = "\x1b[31mred\x1b[0m\x07\u202e"


def measured(read: Callable[[], object], name: str, allowed: tuple[type[Exception], ...] = ()) -> str | None:
    """What a reader says of a file, None if it reads it. Fails if it raises anything else than loaders' errors."""
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
    try:
        read()
        message = None
    except (OSError, ValueError, *allowed) as error:
        message = str(error)
        assert name in message, message
        for poor in ("recursion depth", "Maximum allowed dimension", "Invalid argument", "int()", "Unable to allocate"):
            assert poor not in message, message
        assert message.isprintable(), message
    assert tracemalloc.get_traced_memory()[1] - before < MEMORY
    assert time.monotonic() - began < 20
    return message


@pytest.fixture(autouse=True)
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def mutations(data: bytes, count: int, seed: int = 0):
    """Copies with flipped bytes, numbers that claim much, and cuts."""
    choice = random.Random(seed)
    claims = [b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 3, b"\0\0\0\x7f", (10**12).to_bytes(8, "little"), bytes(8)]
    for number in range(count):
        changed = bytearray(data)
        # the first kilobytes, where files say what they hold, get half of it
        place = choice.randrange(len(data) if number % 2 else min(len(data), 2048))
        kind = number % 4
        if kind < 2:
            changed[place] ^= 1 << choice.randrange(8)
        elif kind == 2:
            claim = choice.choice(claims)
            changed[place : place + len(claim)] = claim[: len(data) - place]
        elif number % 8 == 3:
            del changed[place:]
        else:
            changed[place : place + 16] = choice.randbytes(16)[: len(data) - place]
        yield bytes(changed)


def drain(stream) -> None:
    for _ in stream:
        pass


def read_shards(path: Path) -> None:
    drain(loaders.ShardStream(path.parent, image_size=8, threads=1))


def read_tar(path: Path) -> None:
    for item in loaders.open_source(path).items():
        if item.problem is None:
            item.read()


def set_of(folder: Path, kind: str) -> Path:
    if kind == "raw":
        loaders.write_shards(make_arrays(12), folder / "set")
    else:
        tree = make_tree(folder / "tree", classes=2, images=3, height=24, width=24)
        loaders.build_shards(tree, folder / "set", workers=1)
    return folder / "set"


def idx_of(path: Path, array: np.ndarray, packed: bool) -> None:
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


def sample(folder: Path, kind: str) -> tuple[Path, Callable[[Path], object]]:
    """A small file of a kind, and what reads it."""
    arrays = make_arrays(12, 32, 32)
    if kind in ("index raw", "index packed"):
        return set_of(folder, kind.split()[1]) / "index.json", read_shards
    if kind in ("shard raw", "shard packed"):
        return set_of(folder, kind.split()[1]) / "shard-00000.h5", read_shards
    if kind.startswith("idx"):
        packed = kind == "idx gz"
        path = folder / ("train-images-idx3-ubyte" + ".gz" * packed)
        idx_of(path, arrays[0][..., 0], packed)
        idx_of(folder / "train-labels-idx1-ubyte", arrays[1].astype(np.uint8), False)
        return path, lambda path: loaders.open_mnist(path.parent)
    if kind == "pickle":
        return cifar_python(folder / "cifar", False, arrays) / "data_batch_2", lambda path: loaders.open_cifar(
            path.parent
        )
    if kind == "meta pickle":
        return cifar_python(folder / "cifar", True, arrays) / "meta", lambda path: loaders.open_cifar(path.parent)
    if kind in ("cifar tar.gz", "cifar tar"):
        files = contents(cifar_binary(folder / "cifar", False, arrays))
        return make_tar(folder / "c.tar", files, "w:gz" if kind.endswith("gz") else "w"), loaders.open_cifar
    if kind == "tar":
        return make_tar(folder / "t.tar", {f"c{i % 2}/{i}.jpg": encoded(crop(i, 16, 16)) for i in range(6)}), read_tar
    if kind == "tar of tars":
        inner = make_tar(folder / "i.tar", {f"{i}.jpg": encoded(crop(i, 16, 16)) for i in range(3)}).read_bytes()
        return make_tar(folder / "t.tar", {"n01.tar": inner, "n02.tar": inner}), read_tar
    if kind == "hdf5":
        with h5py.File(folder / "a.h5", "w") as file:
            file["train/images"], file["train/labels"] = make_arrays(12)
            file["train/filenames"] = np.array([b"x%d" % i for i in range(12)])
            file.attrs["class_names"] = list("abcde")
        return folder / "a.h5", lambda path: loaders.open_hdf5(path).images[:]
    if kind == "mat":
        from scipy.io import savemat

        fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
        rows = [(number, f"n{number:02d}", 0) for number in range(1, 5)]
        savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=fields)}, do_compression=True)
        return folder / "meta.mat", read_synsets
    assert kind == "synsets"
    (folder / "synsets.txt").write_text("n01 a\nn02 b\n")
    return folder / "synsets.txt", read_synsets


KINDS = [
    "index raw",
    "index packed",
    "shard raw",
    "shard packed",
    "idx",
    "idx gz",
    "pickle",
    "meta pickle",
    "cifar tar.gz",
]
KINDS += ["cifar tar", "tar", "tar of tars", "hdf5", "mat", "synsets"]


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_to_any_file_is_an_error_that_names_it_or_harmless(tmp_path, kind):
    path, read = sample(tmp_path, kind)
    whole = path.read_bytes()
    assert measured(lambda: read(path), path.name) is None
    refused = 0
    allowed = (TypeError,) if kind == "hdf5" else ()  # of a dtype
    # HDF5 itself takes the length of a text attribute at its word, up to 4 GB; this seed has no such claim
    for data in mutations(whole, 80, seed=2):
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's and Pillow's
            refused += measured(lambda: read(path), path.parent.name, allowed) is not None
    assert refused > 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_any_damage_to_an_image_is_a_reason_or_harmless(kind):
    whole = encoded(crop(2, 24, 24), kind)
    for data in mutations(whole, 120):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reason = None
                decode(data, lambda width, height: ((0, 0, width, height), (8, 8)))
            except ValueError as error:
                reason = str(error)
        assert reason != ""


def rewritten(path: Path, **changes: object) -> None:
    """A JSON file with other values and, where it has a digest, the right one for them."""
    values = {**json.loads(path.read_text()), **changes}
    if "digest" in values:
        values["digest"] = loaders.shards.index.index_digest(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "changes",
    [
        {"records": 10**12},
        {"records": 0, "shards": []},
        {"class_names": [], "class_counts": []},
        {"class_counts": [10**15] * 4},
        {"class_names": ["a"] * 5, "class_counts": [1, -1, 1, 1, 1]},
        {"image_shape": [10**6, 10**6, 3]},
        {"image_shape": [8, 10]},
        {"image_shape": [8, 10, 0]},
        {"image_shape": None},
        {"mean": [float("nan")] * 3},
        {"std": [1, 2]},
        {"layout": "zip"},
        {"shards": [{"file": "../../secret.h5", "records": 12, "bytes": 10}]},
        {"shards": [{"file": "shard-00000.h5", "records": 12, "bytes": 10, "more": 1}]},
        {"shards": [{"file": "shard-00000.h5", "records": 1.5, "bytes": 10}]},
        {"shards": {}},
        {"settings": [], "source": ESCAPE},
        {"version": [ESCAPE]},
        {"identity": 7},
    ],
)
def test_an_index_that_cannot_be_is_refused(tmp_path, changes):
    path = set_of(tmp_path, "raw") / "index.json"
    rewritten(path, **changes)
    assert measured(lambda: read_shards(path), "set")


def test_text_nested_without_end_is_refused(tmp_path):
    folder = set_of(tmp_path, "raw")
    (folder / "index.json").write_text("[" * 100_000)
    assert "nested too deeply" in str(measured(lambda: read_shards(folder / "x"), "index.json"))
    (folder / "index.json").unlink()
    for text in ("[" * 100_000, "[]", '{"source": 1, "settings": 2}', "1" * 9000):
        (folder / "build.json").write_text(text)
        assert measured(lambda: loaders.write_shards(make_arrays(12), folder), "build.json is damaged")


def replaced(name: str, **options: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, **options)

    return edit


def link(name: str, target: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = target

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (replaced("labels", data=np.full(12, 10**15)), "label outside"),
        (replaced("labels", data=np.full(12, -2)), "label outside"),
        (replaced("labels", shape=(10**12,), dtype="i8", chunks=(1000,)), "in one piece"),
        (replaced("labels", shape=(10**12,), dtype="i8"), "claims 8000000000000 bytes"),
        (replaced("images", shape=(10**12, 8, 10, 3), dtype="u1"), "claims 240000000000000 bytes"),
        (replaced("names", data=["x"] * 12, dtype=h5py.string_dtype()), "must not be of dtype object"),
        (replaced("names", shape=(12,), dtype="S1000000000"), "claims 12000000000 bytes"),
        (replaced("crc32", data=np.zeros(5, "u4")), "do not fit together"),
        (replaced("labels", data=np.zeros((3, 4), "i8")), "damaged"),
        (link("labels", h5py.SoftLink("/crc32")), "its labels is a link"),
        (link("images", h5py.ExternalLink("other.h5", "/images")), "its images is a link"),
    ],
)
def test_a_shard_that_claims_or_leads_elsewhere_is_refused(tmp_path, edit, message):
    path = set_of(tmp_path, "raw") / "shard-00000.h5"
    shutil.copy(path, path.parent / "other.h5")
    columns = list(loaders.shards.format.NUMBERS)
    with h5py.File(path, "r+") as file:
        edit(file)
        small = {name: file[name] for name in columns if name in file}
        if all(isinstance(table, h5py.Dataset) and table.size < 100 for table in small.values()):
            stored = {name: table[:] for name, table in small.items()}
            images = file["images"].shape if file.get("images", getlink=True).__class__ is h5py.HardLink else ()
            file.attrs["digest"] = loaders.shards.format.table_digest(file.attrs, stored, images)
    shards = json.loads((path.parent / "index.json").read_text())["shards"]
    shards[0]["bytes"] = path.stat().st_size
    rewritten(path.parent / "index.json", shards=shards)
    damages = loaders.verify_shards(path.parent)
    assert damages
    assert message in " ".join(damage.reason for damage in damages)
    if "names" not in str(message) and "dtype object" not in message and "12000000000" not in message:
        assert message in str(measured(lambda: read_shards(path), path.name))


def hdf5_of(path: Path, **datasets: dict[str, object]) -> Path:
    images, labels = make_arrays(12)
    with h5py.File(path, "w") as file:
        for name, options in {"images": {"data": images}, "labels": {"data": labels}, **datasets}.items():
            file.create_dataset(f"train/{name}", **options)
    return path


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"images": {"shape": (10**12, 8, 10, 3), "dtype": "u1"}}, "claims 240000000000000 bytes"),
        ({"images": {"shape": (10**9, 8, 10, 3), "dtype": "u1", "chunks": (1, 8, 10, 3)}}, "some are not there"),
        ({"images": {"shape": (12, 1000, 1000, 300), "dtype": "u1", "chunks": (1, 1000, 1000, 300)}}, "smaller ones"),
        ({"labels": {"shape": (10**12,), "dtype": "i8", "chunks": (10**6,)}}, "some are not there"),
        ({"labels": {"data": np.full(12, 10**15)}}, "labels must be below 1000000, got 1000000000000000"),
        ({"labels": {"data": np.zeros(11, int)}}, r"must have the shape (12,), got (11,)"),
        ({"filenames": {"data": ["a" * 10_000] * 12, "dtype": h5py.string_dtype()}}, "texts of at most 4096 letters"),
        ({"filenames": {"data": ["a"] * 5, "dtype": h5py.string_dtype()}}, "must have the shape (12,)"),
        (
            {"images": {"shape": (12, 8, 10, 3), "dtype": "u1", "external": [("/etc/passwd", 0, 3000)]}},
            "its train/images is stored in other files",
        ),
    ],
)
def test_an_hdf5_file_that_claims_or_leads_elsewhere_is_refused(tmp_path, datasets, message):
    path = hdf5_of(tmp_path / "a.h5", **datasets)
    assert message in str(measured(lambda: loaders.open_source(path), "a.h5"))


def test_links_and_virtual_datasets_of_an_hdf5_file_are_refused(tmp_path):
    other = hdf5_of(tmp_path / "other.h5")
    for name, target in [("train", h5py.ExternalLink(str(other), "/train")), ("train", h5py.SoftLink("/x"))]:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file[name] = target
        assert "its train/images is a link" in str(measured(lambda: loaders.open_hdf5(tmp_path / "a.h5"), "a.h5"))
    layout = h5py.VirtualLayout((12, 8, 10, 3), "u1")
    layout[:] = h5py.VirtualSource(str(other), "train/images", (12, 8, 10, 3))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("train/images", layout)
        file["train/labels"] = np.zeros(12, int)
    assert "stored in other files" in str(measured(lambda: loaders.open_hdf5(tmp_path / "b.h5"), "b.h5"))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("shape", [(2**32 - 1, 2**32 - 1, 2**32 - 1), (0, 2**32 - 1, 2**32 - 1), (10**6, 1000, 1000)])
def test_an_idx_file_that_claims_a_size_is_refused(tmp_path, shape, packed):
    data = struct.pack(">BBBB3I", 0, 0, 8, 3, *shape) + bytes(100)
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    idx_of(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8), False)
    assert "must hold" in str(measured(lambda: loaders.open_mnist(tmp_path), path.name))


def test_gzip_bombs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(loaders.sources.unpack, "FREE", 2**16)
    data = struct.pack(">BBBB3I", 0, 0, 8, 3, 30, 1000, 1000) + bytes(3 * 10**7)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(data, 1))
    del data
    idx_of(tmp_path / "train-labels-idx1-ubyte", np.zeros(30, np.uint8), False)
    assert path.stat().st_size < 200_000
    message = loaders.sources.unpack.most_unpacked(path)
    with pytest.raises(ValueError, match=f"unpacks to more than {message} bytes; if that is right, unpack it"):
        loaders.open_mnist(tmp_path)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz", compresslevel=1) as tar:
        for name in ("data_batch_1", "data_batch_2"):
            entry = tarfile.TarInfo(name)
            entry.size = 2 * 10**7
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(ValueError, match=r"c\.tar\.gz is not a whole tar archive: unexpected end of data"):
        loaders.open_cifar(tmp_path / "c.tar.gz")


def numbered(size: bytes, name: bytes = b"a/1.jpg", kind: bytes = b"0") -> bytes:
    """A tar header with a size of one's own, and the right checksum."""
    header = bytearray(tarfile.TarInfo("x").tobuf())
    header[: len(name)] = name
    header[124:136] = size.ljust(12, b"\0")
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    "header",
    [
        numbered(b"77777777777"),
        numbered(b"\x80" + (10**15).to_bytes(11, "big")),
        numbered(b"\xff" * 12),
        numbered(b"77777777777", b"././@LongLink", b"L"),
        numbered(b"77777777777", b"pax", b"x"),
        b"".join(numbered(b"0", b"././@LongLink", b"L") for _ in range(5000)),
    ],
)
def test_a_tar_that_claims_sizes_is_refused(tmp_path, header):
    path = tmp_path / "t.tar"
    path.write_bytes(header + bytes(2048))
    measured(lambda: read_tar(path), "t.tar")
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(header + bytes(2048)))
    assert measured(lambda: loaders.open_cifar(tmp_path / "c.tar.gz"), "c.tar.gz")


def test_an_item_that_claims_more_than_its_file_holds_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(bytes(100))
    item = loaders.Item("x", 0, str(tmp_path / "x"), 10, 10**12)
    assert "ends before" in str(measured(item.read, str(tmp_path / "x")))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85U\x01b\x87R.",
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x04\x8e" + (10**13).to_bytes(8, "little") + b"x.",
        b"\x80\x02" + b"]" * 50_000 + b"." * 3,
        pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10**15]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [[0], 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1], b"filenames": 7}),
        pickle.dumps([ESCAPE]),
    ],
)
def test_pickles_that_allocate_or_claim_are_refused(tmp_path, payload):
    folder = cifar_python(tmp_path / "cifar", False, make_arrays(12, 32, 32))
    (folder / "data_batch_3").write_bytes(payload)
    assert measured(lambda: loaders.open_cifar(folder), "data_batch_3")


def test_texts_that_are_none_are_refused(tmp_path):
    make_tar(tmp_path / "val.tar", {"ILSVRC2012_val_00000001.JPEG": b"x", "v_" + "1" * 5000 + ".JPEG": b"x"})
    (tmp_path / "synsets.txt").write_text("n01\nn02\n")
    (tmp_path / "truth.txt").write_text("1\n")
    source = loaders.ImageNetValidation(tmp_path / "val.tar", tmp_path / "truth.txt", tmp_path / "synsets.txt")
    assert [item.problem is None for item in source.items()] == [True, False]
    for data in (b"\xff\xfe\0", b"9" * 5000, ESCAPE.encode()):
        (tmp_path / "truth.txt").write_bytes(data)
        files = [tmp_path / name for name in ("val.tar", "truth.txt", "synsets.txt")]
        assert measured(lambda files=files: loaders.ImageNetValidation(*files), "truth.txt")
    (tmp_path / "meta.mat").write_bytes(b"MATLAB 5.0" + bytes(200))
    assert measured(lambda: read_synsets(tmp_path / "meta.mat"), "meta.mat is not the devkit's meta.mat")


def test_names_are_printable():
    assert printable("a b/ü€.jpg") == "a b/ü€.jpg"
    assert printable(ESCAPE) == r"\x1b[31mred\x1b[0m\x07\u202e"
    assert printable("\udcff\n") == r"\udcff\n"
    assert len(printable("x" * 10**6)) == 1000


def test_escape_codes_of_names_do_not_reach_the_terminal(tmp_path, capsys, caplog):
    tree = make_tree(tmp_path / ESCAPE, classes=1, images=2)
    (tree / "class_0").rename(tree / f"class{ESCAPE}")
    (tree / f"class{ESCAPE}" / f"{ESCAPE}.jpg").write_bytes(b"bad")
    shards = tmp_path / "shards"
    assert main(["shards", "build", str(tree), str(tmp_path / "s"), "--strict", "--workers", "1"]) == 1
    assert main(["shards", "build", str(tree), str(shards), "--workers", "1"]) == 0
    assert main(["shards", "info", str(shards)]) == 0
    path = shards / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[int(loaders.shards.format.read_table(path).starts[1]) + 9] ^= 4
    path.write_bytes(data)
    assert main(["shards", "verify", str(shards)]) == 1
    stream = loaders.ShardStream(shards, on_error="skip")
    drain(stream)
    with pytest.raises(ValueError, match="is damaged") as caught:
        drain(loaders.ShardStream(shards))
    (tmp_path / f"e{ESCAPE}").mkdir()
    with pytest.raises(ValueError, match="one folder for each class") as empty:
        loaders.open_source(tmp_path / f"e{ESCAPE}")
    captured = capsys.readouterr()
    texts = [captured.out, captured.err, caplog.text, str(caught.value), str(empty.value), *stream.skipped.values()]
    assert all("\x1b" not in text and "\u202e" not in text for text in texts)
    assert r"\x1b[31mred" in captured.out
    assert r"\x1b[31mred" in str(caught.value)
    assert next(name for name in stream.names if "red" in name)  # as it is


@pytest.mark.parametrize("claim", [(1, 2**64 - 1), (1, 2**64 - 16), (0, 0), (0, 2**63), (1, 10**6)])
def test_a_heap_of_texts_that_hdf5_would_read_for_ever_is_refused(tmp_path, claim):
    path = set_of(tmp_path, "raw") / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    place = data.index(loaders.hdf5.HEAP) + 16
    data[place : place + 2], data[place + 8 : place + 16] = (
        claim[0].to_bytes(2, "little"),
        claim[1].to_bytes(8, "little"),
    )
    path.write_bytes(data)
    assert "heap of texts claims bytes" in str(measured(lambda: read_shards(path), path.name))
