"""`hebbcore evaluate` and its report as a user meets them."""

import json
import re
import sys

import h5py
import pytest
from evaluate_helpers import TEST, TRAIN

import hebbcore
from hebbcore.cli import main
from hebbcore.evaluation.report import accuracy_table, write_report
from hebbcore.evaluation.results import Results
from hebbcore.evaluation.sources import BASELINES
from hebbcore.files import locked

pytest_plugins = "evaluate_helpers"


def test_no_report_is_written_while_another_process_evaluates(files, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    options = ("--labels", "100", "--baselines", "none", "--queries", "0", "--out", str(tmp_path))
    assert main(command(files, *options)) == 0
    capsys.readouterr()
    monkeypatch.setattr("hebbcore.cli.evaluate.evaluate", lambda *arguments, **options: {})
    with locked(tmp_path, "evaluating into"):
        assert main(command(files, *options)) == 1
    assert capsys.readouterr().err == (
        f"hebbcore: another process is evaluating into {tmp_path}; wait for it or stop it.\n"
    )  # fmt: skip


@pytest.mark.parametrize("other", [True, False])
def test_the_folder_of_a_run_gets_no_report(files, digits, tmp_path, capsys, monkeypatch, other):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    hebbcore.fit(hebbcore.Network([hebbcore.Conv(3, 3)]), digits[0][:20], run="a")
    (tmp_path / "a" / "filters.png").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    arguments = command(files, "--out", f"{tmp_path}/a")
    if not other:
        arguments[1] = "a"
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"hebbcore: evaluate: {tmp_path}/a is the folder of a run, whose filters.png the report would replace; name "
        f"another --out, such as {tmp_path}/a/report.\n"
    )
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "a" / "filters.png").read_bytes() == b"mine"


def test_a_report_that_cannot_be_drawn_is_said_before_any_work(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(command(files, "--out", str(tmp_path / "out"))) == 1
    assert 'needs Matplotlib; install hebbcore with the extra "plot"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def files(trained, digits, tmp_path_factory):
    """Return a folder with the network and the digits as files."""
    folder = tmp_path_factory.mktemp("evaluate")
    hebbcore.save(folder / "network.h5", trained)
    with h5py.File(folder / "digits.h5", "w") as file:
        for split, part in (("train", TRAIN), ("test", TEST)):
            file[f"{split}/images"], file[f"{split}/labels"] = digits[0][part], digits[1][part]
    return folder


def command(files, *more):
    digits = str(files / "digits.h5")
    return ["evaluate", str(files / "network.h5"), "--train", digits, "--test", digits, *more]


def test_the_command_writes_a_complete_and_self_contained_report(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "report"
    assert main(command(files, "--out", str(out), "--labels", "20,100", "--seeds", "2", "--queries", "20")) == 0
    assert "mirror" not in (out / "report.md").read_text()
    printed = capsys.readouterr()
    assert {path.name for path in out.iterdir()} == {
        "accuracy.png", "filters.png", "report.html", "report.md", "results.json"
    }  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert set(results["sources"]) == {"bn1", "bn2", *BASELINES}
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for name in results["sources"]:
        assert name in printed.out
        assert f"| {name} |" in text
        assert f"<td>{name}</td>" in page
    for row in accuracy_table(Results.from_json(results), lambda run: run.top1)[1:]:
        assert all(figure in page for figure in row)
        assert float(row[2]) == pytest.approx(results["sources"][row[0]]["gflop"], abs=0.005)
        assert re.fullmatch(r"\d+\.\d ± \d+\.\d", row[3])
        assert re.fullmatch(r"\d+\.\d", row[4])  # all labels: one selection
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # nothing from elsewhere
    assert page.count("<table>") == page.count("</table>") == 5
    assert "Its penalty is chosen on the labelled images: up to 5,000 are left out in turn, one by one" in page
    assert main(command(files, "--out", str(out), "--labels", "20,100", "--seeds", "2", "--queries", "20")) == 0
    assert "seed" not in capsys.readouterr().err  # nothing was left to do


def test_a_report_says_how_many_selections_its_means_are_of(files, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    line = ["--out", str(tmp_path), "--labels", "20,40", "--queries", "0", "--baselines"]
    assert main(command(files, *line, "none", "--layers", "bn1", "--seeds", "3")) == 0
    assert "interval over 3 selections\n" in capsys.readouterr().out
    assert main(command(files, *line, "none", "--layers", "bn1", "--seeds", "2")) == 0  # nothing is measured
    assert "interval over 3 selections\n" in capsys.readouterr().out
    assert "interval over 3 selections; all labels are one" in (tmp_path / "report.md").read_text()
    assert main(command(files, *line, "pixels", "--layers", "bn1", "--seeds", "1")) == 0
    told = "interval over 3 selections, but 1 for pixels at 20 %; 1 for pixels at 40 %"
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "report.md").read_text()
    (tmp_path / "results.json").unlink()  # as advised where it is damaged
    assert main(command(files, *line, "none", "--layers", "bn1", "--seeds", "1")) == 0
    assert "pixels" not in (tmp_path / "report.md").read_text()
    for name in ("results.json", "accuracy.png"):
        (tmp_path / name).unlink()  # then it may be another's
    assert main(command(files, *line, "none", "--layers", "bn1", "--seeds", "1")) == 1
    assert "holds report.md, which would be replaced" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("views", "text"),
    [
        (["--mirror"], "averaged over each image and its mirror image"),
        (["--shifts", "1"], "averaged over each image and the same shifted by 1 pixels, 4 ways"),
    ],
)
def test_a_report_says_what_features_are_averaged_over(files, tmp_path, capsys, views, text):
    pytest.importorskip("matplotlib")
    options = ("--labels", "100", "--baselines", "none", "--queries", "0", "--out", str(tmp_path))
    assert main(command(files, *views, *options)) == 0
    assert text in (tmp_path / "report.md").read_text()
    assert main(command(files, *options)) == 1
    assert "holds another evaluation" in capsys.readouterr().err


def test_what_does_not_beat_random_filters_is_shown_as_such(tmp_path):
    def entry(accuracy):
        runs = [{"labels": 1.0, "seed": 0, "top1": accuracy, "top5": 90.0}]
        return {"features": 10, "cells": None, "runs": runs, "confusion": None, "retrieval": None}

    pytest.importorskip("matplotlib")
    results = {
        "settings": {
            "weights": "", "train": {}, "test": {}, "readout": "ridge", "how": "published", "features": 10,
            "mirror": False, "queries": 0,
        },
        "classes": [],
        "sources": {"bn1": entry(40.0), "bn2": entry(60.0), "random filters": entry(50.0), "pixels": entry(30.0)},
    }  # fmt: skip
    write_report(tmp_path, results, "title")
    assert "No better than random filters of the first layer's size: bn1." in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--layers", "bn9"], 1, "layer must be one of 'conv1', 'pool1', 'bn1', 'fc2', 'bn2'; got 'bn9'"),
        (["--baselines", "kmeans"], 1, "Did you mean 'k-means'"),
        (["--seeds", "0"], 1, "seeds must be at least 1"),
        (["--features", "0"], 1, "features must be at least 1"),
        (["--queries", "-1"], 1, "queries must be at least 0"),
        (["--memory", "lots"], 1, "memory must be bytes or text"),
        (["--image-size", "8"], 1, "image-size is for shards"),
        (["--labels", "0,10"], 2, "must be above 0 and at most 100"),
        (["--labels", "ten"], 2, "must be percentages such as 1,10,100"),
        (["--readout", "forest"], 2, "invalid choice"),
    ],
)
def test_wrong_use_is_said_without_a_traceback(more, status, message, files, tmp_path, capsys):
    arguments = command(files, "--out", str(tmp_path / "out"), *more)
    if status == 2:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
    else:
        assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_file_that_is_missing_or_holds_a_layer(files, tmp_path, capsys, digits):
    layer = hebbcore.train_layer(digits[0][:50], 3, 3, rule="swta")
    hebbcore.save(tmp_path / "layer.h5", layer)
    arguments = command(files, "--out", str(tmp_path / "out"))
    assert main([arguments[0], str(tmp_path / "layer.h5"), *arguments[2:]]) == 1
    assert "holds a single layer, not a network" in capsys.readouterr().err
    assert main([arguments[0], str(tmp_path / "none"), *arguments[2:]]) == 1
    assert "does not exist" in capsys.readouterr().err
