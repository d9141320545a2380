"""Source files that claim sizes, lead elsewhere or never end: reading them ends with an error that names them."""

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from cifar_helpers import cifar_python
from loaders_helpers import make_arrays
from loaders_hostile_helpers import ESCAPE, idx_of, measured, read_tar

import loaders
from loaders.sources.hdf5 import hdf5_arrays, hdf5_names

pytest_plugins = "loaders_hostile_helpers"
pytestmark = pytest.mark.usefixtures("traced")


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
        ({"labels": {"data": ["a"] * 12, "dtype": h5py.string_dtype()}}, "its train/labels must be numbers, got texts"),
        ({"labels": {"data": [b"a"] * 12}}, "its train/labels must be numbers, got texts"),
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


@pytest.mark.parametrize("options", [{"chunks": (4, 8, 10, 3)}, {"chunks": (4, 8, 10, 3), "compression": "gzip"}, {}])
@pytest.mark.parametrize("name", ["images", "labels", "filenames"])
def test_an_hdf5_file_that_was_not_written_to_its_end_is_refused(tmp_path, name, options):
    whole = {"images": (12, 8, 10, 3), "labels": (12,), "filenames": (12,)}
    chunks = {"chunks": (4, *whole[name][1:])} if options else {}
    path = hdf5_of(tmp_path / "a.h5", filenames={"data": [b"a"] * 12})
    with h5py.File(path, "r+") as file:
        dtype = file[f"train/{name}"].dtype
        del file[f"train/{name}"]
        dataset = file["train"].create_dataset(name, whole[name], dtype, **{**options, **chunks})
        if options:
            dataset[:8] = b"b" if name == "filenames" else 1  # and then the program was killed
    read = hdf5_names if name == "filenames" else hdf5_arrays
    with pytest.raises(ValueError, match=rf"a\.h5.*its train/{name} is not written to its end"):
        read(path, "train")


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


@pytest.mark.parametrize("kind", ["S3", h5py.string_dtype()])
def test_labels_that_are_texts_are_told_how_they_become_numbers(tmp_path, kind):
    path = hdf5_of(tmp_path / "a.h5", labels={"data": ["cat"] * 12, "dtype": kind})
    with pytest.raises(ValueError, match=r"a\.h5: train/labels must be integers, .* got texts; number the classes"):
        hdf5_arrays(path, "train")


@pytest.mark.parametrize("read", [loaders.open_hdf5, lambda path: hdf5_arrays(path, "train")])
def test_an_hdf5_file_that_is_refused_does_not_stay_open(tmp_path, read):
    path = hdf5_of(tmp_path / "a.h5", labels={"data": np.zeros(3, int)})
    with pytest.raises(ValueError, match="train/labels must h") as error:
        read(path)
    with h5py.File(path, "w"):  # HDF5 refuses to write to what is open
        pass
    assert error.value.__traceback__ is not None  # which keeps what the function had


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
