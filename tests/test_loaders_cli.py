"""`hebbcore shards …` as a user runs it: output, exit status, and errors without a traceback."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from loaders_helpers import contents, make_arrays, make_tree, shared_file
from PIL import Image
from tqdm import tqdm

import hebbcore
import loaders
from hebbcore.cli import main

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(hebbcore.__file__).parents[1])}


@pytest.fixture
def tree(tmp_path) -> Path:
    tree = make_tree(tmp_path / "tree", classes=2, images=4)
    (tree / "class_0" / "bad.jpg").write_bytes(b"bad")
    return tree


def test_build_verify_and_info(tree, tmp_path, capsys):
    shards = str(tmp_path / "shards")
    build = ["shards", "build", str(tree), shards, "--size", "32", "--workers", "1", "--shard-size", "8K"]
    assert main(build) == 0
    output = capsys.readouterr().out
    assert "8 images in " in output
    assert "1 skipped" in output
    assert f"{shards}/report.json" in output
    before = contents(tmp_path / "shards")
    assert main(build) == 0
    assert contents(tmp_path / "shards") == before
    capsys.readouterr()
    assert main(["shards", "verify", shards]) == 0
    assert ": 0 damaged" in capsys.readouterr().out
    assert main(["shards", "info", shards]) == 0
    assert "2, 4 to 4 images each" in capsys.readouterr().out


def test_verify_names_the_damage_and_fails(tmp_path, capsys):
    loaders.write_shards(make_arrays(), tmp_path)
    path = tmp_path / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[int(loaders.shards.format.read_table(path).starts[7])] ^= 4
    path.write_bytes(data)
    assert main(["shards", "verify", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "shard-00000.h5 record 7 (0000007): its CRC-32 must be" in output
    assert ": 1 damaged" in output


def test_errors_are_one_line_unless_debug(tmp_path, tree, capsys):
    (tmp_path / "file").touch()
    for arguments, message in [
        (["verify", str(tmp_path / "none")], "index.json does not exist"),
        (["build", str(tmp_path / "none"), str(tmp_path / "x")], "open_source:"),
        (["build", str(tree), str(tmp_path / "file")], "cannot create the folder"),
        (["build", str(tree), str(tmp_path / "y"), "--strict", "--workers", "1"], "class_0/bad.jpg cannot be decoded"),
    ]:
        assert main(["shards", *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.err.splitlines()[-1].startswith("hebbcore: ")
        assert message in captured.err
        assert "Traceback" not in captured.err
    with pytest.raises(FileNotFoundError):
        main(["--debug", "shards", "verify", str(tmp_path / "none")])


@pytest.mark.parametrize(
    "arguments", [[], ["shards"], ["shards", "build"], ["shards", "build", "a", "b", "--shard-size", "much"]]
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"), [("256M", 2**28), ("256MiB", 2**28), ("1g", 2**30), ("77", 77), ("4 K", 4096)]
)
def test_sizes(text, size):
    assert loaders.commands._bytes(text) == size


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_build_that_is_interrupted_says_so_and_goes_on(tmp_path, number, status):
    tree = make_tree(tmp_path / "tree", classes=2, images=80, height=300, width=400)
    for image in list(tree.rglob("*.jpg")):  # enough work for a machine that is slow to send the signal
        for copy in range(3):
            os.link(image, image.with_stem(f"{image.stem}_{copy}"))
    command = [sys.executable, "-m", "hebbcore", "shards", "build", str(tree), str(tmp_path / "shards")]
    command += ["--size", "100", "--shard-size", "30K", "--workers", "2"]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while not (tmp_path / "shards" / "shard-00000.h5").exists():
        time.sleep(0.001)
    os.killpg(process.pid, number)  # as a terminal sends them
    _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert errors.decode().splitlines()[-1] == "hebbcore: interrupted"
    assert "Traceback" not in errors.decode()
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True).returncode == 0
    loaders.build_shards(tree, tmp_path / "whole", size=100, shard_bytes=30 * 1024, workers=1)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_a_reader_that_closes_the_pipe_is_no_error_to_see(tmp_path):
    loaders.write_shards(make_arrays(), tmp_path)
    command = f"{sys.executable} -m hebbcore shards info {tmp_path} | head -n 1"
    result = subprocess.run(command, shell=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert "Traceback" not in result.stderr
    assert "images" in result.stdout


def test_the_bar_of_a_download_counts_no_time_for_what_was_there(monkeypatch):
    rates = []

    class Bar(tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False, "file": io.StringIO()})

        def update(self, n=1):
            super().update(n)
            rates.append((self.desc, (self.n - self.initial) / 1e6))

    def download(name, folder, mirror, progress):
        for done in (900, 901, 902):
            progress("a.tar", done * 10**6, 10**9)
        for done in (1, 3):
            progress("b.tar", done * 10**6, 10**8)
        return folder

    monkeypatch.setattr("loaders.commands.tqdm", Bar)
    monkeypatch.setattr("loaders.commands.download_dataset", download)
    assert main(["shards", "download", "cifar10", "folder"]) == 0
    assert rates == [("a.tar", 0), ("a.tar", 1), ("a.tar", 2), ("b.tar", 0), ("b.tar", 2)]


def test_cifar_from_the_command_line_to_batches(tmp_path):
    path = shared_file("cifar10.h5")
    assert main(["shards", "build", str(path), str(tmp_path / "test"), "--split", "test", "--shard-size", "8M"]) == 0
    stream = loaders.ShardStream(tmp_path / "test", batch_size=1000, shuffle=True, dtype="float32")
    assert sum(len(images) for images, _ in stream) == 10_000
    assert np.isclose(np.mean(stream.index.mean), 0.4765, atol=1e-3)


def test_a_range_of_images_without_16_bits_is_told(tree, tmp_path, capsys):
    build = ["shards", "build", "--range", "4095", "--workers", "1"]
    assert main([*build, str(tree), str(tmp_path / "shards")]) == 0
    assert "--range 4095: no image of a sample of these has 16 bits, and it has no effect" in capsys.readouterr().out
    for path in list(tree.rglob("*.*")):
        path.unlink()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 60).save(tree / "class_0" / "deep.png")
    assert main([*build, str(tree), str(tmp_path / "deep")]) == 0
    assert "--range" not in capsys.readouterr().out
