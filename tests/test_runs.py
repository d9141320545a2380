"""Runs side by side: `hebbcore plot` of several, their settings and final figures."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import CONV, config_text
from PIL import Image

import hebbcore
from hebbcore.runs import compare
from hebbcore.runs.config import read_config

pytest_plugins = "cli_helpers"

CONFIG = config_text(CONV, {"type": "dense", "units": 5}, log_seconds=0)


@pytest.fixture
def two(images, call):
    """Two runs, r/a and r/b, which differ in a rate and a rule."""
    Path("run.toml").write_text(CONFIG)
    call("train run.toml --out r/a")
    call("train run.toml --out r/b --set training.learning_rate=0.01 --set network.layers.fc2.rule=swta")
    return images


def table(text, title):
    """Return the cells of a table of a Markdown text."""
    lines = text.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def record(step, epoch, **figures):
    layer = {"change": None, "norm_mean": 1.0, "dead": 0, "entropy": 1.0, **figures}
    return {
        "step": step,
        "images": 10 * step,
        "seconds": 2.0 * step,
        "phase": 0,
        "epoch": epoch,
        "layers": {"a": layer},
    }


def test_plot_of_several_runs(two, call):
    Path("r/notes.txt").write_text("notes")
    Path("r/empty").mkdir()
    out, err = call("plot r/a r/b r/notes.txt r/empty --out both")
    assert out == f"{Path('both/table.md').read_text()}\nboth/curves.png\nboth/table.md\n"
    assert err == "left out: r/notes.txt has no metrics.jsonl\nleft out: r/empty has no metrics.jsonl\n"
    assert sorted(path.name for path in Path("both").iterdir()) == ["curves.png", "table.md"]
    text = Path("both/table.md").read_text()
    head, first, second = table(text, "Runs")
    assert head == [
        "run", "training.learning_rate", "network.layers[1].rule", "images", "seconds", "images a second", "dead units",
    ]  # fmt: skip
    assert (first[:4], second[:4]) == (["a", "0.001", "", "60"], ["b", "0.01", "swta", "60"])
    last = json.loads(Path("r/b/metrics.jsonl").read_text().splitlines()[-1])["layers"]
    assert table(text, "Mean norm of the units") == [
        ["run", "conv1", "fc2"],
        ["a", *table(text, "Mean norm of the units")[1][1:]],
        ["b", *(f"{last[name]['norm_mean']:.4g}" for name in ("conv1", "fc2"))],
    ]
    with Image.open("both/curves.png") as picture:
        assert picture.size == (1920, round(120 * (0.6 + 2 * 2.7)))
        colours = {tuple(colour) for colour in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # a line of each


def test_plot_of_a_run_from_python_beside_others(two, call):
    with h5py.File("images.h5") as file:
        network = hebbcore.Network([hebbcore.Conv(6, 3), hebbcore.Pool(2)], device="cpu")
        hebbcore.fit(network, file["train/images"][...], run="r/c", learning_rate=0.5)
    call("plot r/a r/b r/c --out three")
    head, *rows = table(Path("three/table.md").read_text(), "Runs")
    assert [row[head.index("training.learning_rate")] for row in rows] == ["0.001", "0.01", "0.5"]
    assert [row[head.index("network.layers")] for row in rows] == ["conv, dense", "conv, dense", "conv, pool"]
    assert [row[head.index("data.path")] for row in rows] == ["images.h5", "images.h5", ""]
    assert not [key for key in head if key.startswith("network.layers[")]


def test_sizes_are_compared_in_bytes(two):
    path = Path("r/b/config.json")
    given = json.loads(path.read_text())
    path.write_text(json.dumps({**given, "workspace": "262144 KiB"}))
    told = []
    for size in (2**28, "256 MiB", "128 MiB"):
        Path("r/a/config.json").write_text(json.dumps({**given, "workspace": size}))
        head, *rows = compare.comparison({"a": Path("r/a"), "b": Path("r/b")})[0][1]
        told.append([row[head.index("workspace")] for row in rows] if "workspace" in head else [])
    assert told == [[], [], ["128 MiB", "262144 KiB"]]


def test_the_same_layers_from_python_and_a_configuration_do_not_differ(two):
    with h5py.File("images.h5") as file:
        network = hebbcore.Network(read_config(Path("r/a/config.json")).make_network().stack, device="cpu")
        hebbcore.fit(network, file["train/images"][...], run="r/c")
    head = compare.comparison({"a": Path("r/a"), "c": Path("r/c")})[0][1][0]
    assert [key for key in head if key.startswith("network.")] == ["network.image_shape"]


def test_many_runs_and_the_same_folder_name_twice(two, call):
    Path("q").mkdir()
    Path("r/a").rename("q/b")
    call("plot q/b r/b q/b --out both")
    assert [row[0] for row in table(Path("both/table.md").read_text(), "Runs")] == ["run", "q/b", "r/b"]
    names = [*map(str, range(9)), "_m", "a$^$b$"]
    for name in names:
        run = Path(f"m/{name}")
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text(Path("r/b/metrics.jsonl").read_text())
    call(["plot", *(f"m/{name}" for name in names), "--out", "many"])
    assert len(table(Path("many/table.md").read_text(), "Runs")) == 12


def test_errors_of_plots_of_several(two, call, fails):
    assert call("plot r/a r/b")[0].endswith("\nr/curves.png\nr/table.md\n")  # into the folder of both
    assert call("plot r/a r/b r/curves.png r/table.md")[1].count("left out: ") == 2
    assert call(f"plot r/a {Path('r/b').absolute()}")[0].endswith(f"\n{Path('r/table.md').absolute()}\n")
    Path("r/curves.png").unlink()
    assert "r is none, and holds table.md, which would be replaced" in fails("plot r/a r/b")  # it may be another's
    assert fails("plot r/a gone --out x") == "plot: gone does not exist."
    assert fails("plot run.toml images.h5 --out x") == (
        "plot: none of these is the folder of a run with metrics; train first."
    )
    assert fails("plot r/a r/b --out x --previous").startswith(
        "plot: --previous is for one run; the checkpoints of sev"
    )
    assert fails("plot r/a r/b --out x --import m").startswith("plot: --import is for one run")
    for text, message in (
        ("{", "r/b/config.json is not valid JSON"),
        ("3", "r/b/config.json is no configuration of a run"),
    ):
        Path("r/b/config.json").write_text(text)
        assert fails("plot r/a r/b --out x").startswith(message)
    Path("r/b/config.json").unlink()
    Path("r/b/metrics.jsonl").write_text(json.dumps({**record(1, 1), "seconds": "x"}) + "\n")
    assert fails("plot r/a r/b --out x") == "plot: r/b/metrics.jsonl: the record of step 1 is damaged; remove its line."
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("records", "dead"),
    [
        ([record(5, 1, dead=7)], 7),
        ([record(3, 0, dead=2), record(5, 1, dead=7)], 2),  # the last one counts few winners
        ([record(5, 1, dead=1), record(8, 1, dead=3), record(10, 2, dead=7)], 3),  # the first one is of another epoch
        ([record(5, 1, dead=1), record(10, 2, dead=7)], 7),
        ([record(5, 1, dead=1), record(10, 2, dead=5), record(15, 3, dead=6)], 6),
        # records, many or few of which are written in an epoch, each see a part of it: the pass as a whole counts
        ([record(3, 0, dead=5), record(5, 1, dead=7, pass_dead=1)], 1),
        ([record(5, 1, dead=7, pass_dead=2), record(8, 1, dead=6)], 2),  # of the last whole one
    ],
)
def test_dead_units_are_those_of_the_last_epoch(records, dead):
    assert compare.final_figures(records).layers["a"]["dead"] == dead


def test_the_entropy_is_of_many_winners():
    few, many = ({"winners": 64, "entropy": 3.0}, {"winners": 9000, "entropy": 7.5})
    records = [record(1, 0, winners=10_000, entropy=9.0), record(5, 1), record(8, 1, **many), record(10, 2, **few)]
    assert compare.final_figures(records).layers["a"]["entropy"] == 7.5
    assert compare.final_figures([record(5, 1, entropy=2.0), record(10, 2, entropy=3.0)]).layers["a"]["entropy"] == 3.0


def test_final_figures():
    found = compare.final_figures([record(1, 0, change=0.5), record(2, 1, norm_mean=3.0)])
    assert (found.images, found.seconds, found.images_per_second) == (20, 4.0, 5.0)
    slow = {**record(1, 0), "seconds": 60.0}  # kernels were compiled
    assert compare.final_figures([slow, {**record(5, 1), "seconds": 68.0}]).images_per_second == 5.0
    assert compare.final_figures([slow]).images_per_second == 10 / 60
    assert found.layers["a"] == {"dead": 0, "change": 0.5, "norm_mean": 3.0, "entropy": 1.0}


def test_settings_that_differ(tmp_path):
    old = {"data": {"path": "x"}, "network": {"preset": "a", "layers": None}, "training": {"learning_rate": 0.001}}
    new = {**old, "training": {"learning_rate": 0.001, "keep": 3}, "imports": [], "seed": 3}
    found = []
    for name, content in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
        found.append(compare.settings_of(tmp_path / name))
    assert compare.differing(found) == ["seed"]  # what an older version did not write is as by default
    assert compare.settings_of(tmp_path) == {}
    assert compare.differing([{}, {"a": None}, {"b": 1}]) == ["b"]


def test_settings_that_differ_look_different():
    values = (0.99995, 0.99999, 1.0, 1e-05, 0.1234567, True, 10**6, "1.0", [1.0, 2], None)
    shown = ["0.99995", "0.99999", "1", "1e-05", "0.1234567", "true", "1000000", "1.0", "[1.0, 2]", ""]
    assert [compare.setting_text(value) for value in values] == shown
    assert [compare.text_of(figure) for figure in (0.1234567, 12, None)] == ["0.1235", "12", ""]


def test_a_default_that_is_written_out_is_no_difference(tmp_path):
    def of(name, *layers):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"network": {"layers": layers}}))
        return compare.settings_of(tmp_path / name)

    conv = {"type": "conv", "units": 4, "kernel_size": 3}
    rule = {"name": "swta", "temperature": hebbcore.SWTA().temperature}
    inner = {"type": "branches", "branches": [[conv], [{**conv, "rule": "swta"}]]}
    bare = of("bare", {**conv, "rule": "swta"}, inner, {"type": "own", "a": 1})
    more = {**conv, "stride": [1, 1], "padding": 0, "name": ""}
    outer = {"type": "branches", "branches": [[{**more, "rule": "hpca"}], [{**more, "rule": rule}]]}
    assert compare.differing([bare, of("whole", {**more, "rule": rule}, outer, {"type": "own", "a": 1})]) == []
    other = of("other", {**more, "rule": {**rule, "temperature": 2.0}}, outer, {"type": "own", "a": 2})
    assert compare.differing([bare, other]) == ["network.layers[2].a", "network.layers[0].rule.temperature"]


def test_markdown_shows_text_and_nothing_else():
    text = compare.markdown("A", [("B", [["<b>", "x|y"], ["\x1b[31m\u202e", "a\nb\\"]])])
    assert "| &lt;b> | x\\|y |" in text
    assert "| \\\\x1b[31m\\\\u202e | a\\\\nb\\\\ |" in text
