"""CIFAR in every version, written to shards and read back."""

import os
import pickle

import h5py
import numpy as np
import pytest
from cifar_helpers import cifar_binary, cifar_python
from loaders_helpers import built, contents, make_arrays, make_tar, names_of, read_all, shared_file

import loaders


@pytest.mark.parametrize("packed", ["folder", "tar.gz", "tar"])
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_in_every_version(tmp_path, hundred, version, packed):
    arrays = make_arrays(count=31, height=32, width=32)
    name = ("cifar-100" if hundred else "cifar-10-batches") + version
    path = (cifar_python if version == "python" else cifar_binary)(tmp_path / name, hundred, arrays)
    if packed != "folder":
        files = {f"{name}/{file}": data for file, data in contents(path).items()}
        path = make_tar(tmp_path / f"{name}.{packed}", files, "w:gz" if packed == "tar.gz" else "w")
    for split, rows in [("train", slice(0, 26)), ("test", slice(26, 31))]:
        index = built(loaders.open_source(path, split=split), tmp_path / split, shard_bytes=30_000)
        images, labels = read_all(tmp_path / split)
        np.testing.assert_array_equal(images, arrays[0][rows])
        np.testing.assert_array_equal(labels, arrays[1][rows])
        assert index.class_names == tuple(f"c{i}" for i in range(5))
        assert index.source["kind"] == ("CIFAR-100" if hundred else "CIFAR-10")
        if version == "python":
            assert names_of(tmp_path / split)[0] == f"{rows.start}.png"


def test_a_hostile_cifar_pickle_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    folder = cifar_python(tmp_path / "cifar", False, make_arrays(12, 32, 32))
    for payload in (Evil(), {"data": Evil()}):
        (folder / "data_batch_3").write_bytes(pickle.dumps(payload))
        with pytest.raises(ValueError, match=r"data_batch_3 .*system, which no CIFAR file needs"):
            loaders.open_cifar(folder)
    assert not (tmp_path / "owned").exists()
    (folder / "data_batch_3").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match="data_batch_3"):
        loaders.open_cifar(folder)
    (folder / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="lacks data_batch_3"):
        loaders.open_cifar(folder)


def test_a_cut_cifar_archive_is_refused(tmp_path):
    folder = cifar_binary(tmp_path / "bin", False, make_arrays(12, 32, 32))
    tar = make_tar(tmp_path / "bin.tar.gz", contents(folder), "w:gz")
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(ValueError, match="not a whole tar"):
        loaders.open_source(tar)
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(ValueError, match="multiple of 3073"):
        loaders.open_cifar(folder)


def test_real_cifar(tmp_path):
    path = shared_file("cifar10.h5")
    index = built(loaders.open_source(path, split="test"), tmp_path / "shards")
    assert index.class_counts == (1000,) * 10
    with h5py.File(path) as file:
        expected = file["test/images"][::997]
    shards = loaders.shards.read.ShardSet(tmp_path / "shards")
    found = shards.read(np.arange(0, 10000, 997)).data.reshape(-1, 32, 32, 3)
    np.testing.assert_array_equal(found, expected)
