"""Texts that someone made to deceive: configurations, metrics, names."""

import json
import re
from pathlib import Path

import h5py
import pytest
from hostile_helpers import DEEP, IMAGES, LONG, network

import hebbcore
from hebbcore import checkpoint
from hebbcore.checks import printable
from hebbcore.cli import main
from hebbcore.runs.config import read_config
from hebbcore.texts import in_markdown
from hebbcore.training import diagnostics
from hebbcore.training.header import Position

RECORD = {"phase": 0, "epoch": 0, "step": 1, "layers": {}}


@pytest.mark.parametrize(("name", "text"), [("a.json", DEEP), ("a.json", f'{{"seed": {LONG}}}'), ("a.toml", DEEP)])
def test_configurations_that_do_not_end(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text if name == "a.json" else f"a = {text}")
    with pytest.raises(ValueError, match=rf"config: .*{name} is not valid .*(nested too deeply|100000 digits)"):
        read_config(path)


def test_numbers_without_end_in_toml(tmp_path):
    (tmp_path / "a.toml").write_text(f"seed = {LONG}")
    with pytest.raises(ValueError, match=r"a\.toml is not valid TOML: it holds an integer of too many digits"):
        read_config(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text(f"seed = {LONG[:4000]}")
    with pytest.raises(ValueError, match=r"seed must be at most 2\*\*128"):
        read_config(tmp_path / "a.toml")
    with pytest.raises(ValueError, match="learning_rate must be finite"):
        hebbcore.fit(network(), IMAGES, learning_rate=10**400)


@pytest.mark.parametrize("line", [DEEP, f'{{"step": {LONG}}}', '{"step": true}', "x", "", '{"step": 1, "crc32": "x"}'])
def test_lines_of_metrics(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{json.dumps(RECORD)}\n{line}\n{json.dumps(RECORD)}\n")
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: line 2 is .*; remove that line"):
        diagnostics.lines(path)


def test_a_changed_figure_in_a_line_of_metrics_is_noticed(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        diagnostics.append(path, {**RECORD, "step": step, "seconds": 1.5})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    content = path.read_bytes()
    noticed = 0
    second = content.index(b"\n") + 1
    for place in range(second, content.index(b"\n", second)):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"line 2 is (damaged|no record)"):
            diagnostics.lines(path)
        noticed += 1
    assert noticed > 40
    path.write_bytes(content.replace(b"1.5", b"9.5", 1))
    with pytest.raises(ValueError, match="line 1 is damaged: it does not match its CRC-32; remove that line"):
        diagnostics.cut_after(path, Position(step=2))
    assert main(["verify", str(path)]) == 1
    path.write_bytes(json.dumps(RECORD).encode() + b"\n" + content)
    assert main(["verify", str(path)]) == 0
    assert "sound, but 1 lines have no checksum" in capsys.readouterr().out


def test_a_run_is_verified_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("images.h5", "w") as file:
        file["train/images"] = IMAGES
    Path("run.toml").write_text(
        '[data]\npath = "images.h5"\n[network]\nlayers = [{ type = "conv", units = 4, kernel_size = 3 }]\n'
    )
    assert main(["train", "run.toml", "--out", "a"]) == 0
    assert main(["verify", "a"]) == 0
    out = capsys.readouterr().out
    assert "a/metrics.jsonl: sound" in out
    assert "a/config.json: readable, and network and training are those of step-0000000001.h5" in out
    config = Path("a/config.json").read_text()
    Path("a/config.json").write_text(config.replace('"batch_size": 64', '"batch_size": 65'))
    assert main(["verify", "a"]) == 1
    assert "a/config.json is damaged: training.batch_size is not what" in capsys.readouterr().out
    Path("a/config.json").write_text(config)
    latest = checkpoint.checkpoints(Path("a"))[-1]
    latest.write_bytes(latest.read_bytes()[:-1])
    assert main(["verify", "a", "images.h5"]) == 1
    out = capsys.readouterr().out
    assert f"{latest} is damaged" in out
    assert "images.h5 is damaged or holds no features" in out
    assert main(["verify", "missing"]) == 1
    assert main(["verify", str(tmp_path)]) == 1


def test_no_code_reaches_the_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "\x1b]0;owned\x07\u202egpj.h5"
    Path(name).write_bytes(b"x")
    assert main(["extract", name, "x", "y"]) == 1
    assert main(["verify", name]) == 1
    out, err = capsys.readouterr()
    for text in (out, err):
        assert r"\x1b]0;owned\x07\u202egpj.h5" in text
        assert text.replace("\n", "").isprintable()
    assert printable("größe 表\n") == "größe 表\n"
    assert printable("a\r\tb\x9b\udcff") == r"a\r\tb\x9b\udcff"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("__init__", r"\_\_init\_\_"), ("a-_b_", r"a-\_b\_"), ("é_ü_1", "é_ü_1"), ("a*b|c", r"a\*b\|c"),
        ("<b>", "&lt;b>"),
    ],
)  # fmt: skip
def test_a_name_in_markdown_is_no_mark(name, written):
    assert in_markdown(name) == written
