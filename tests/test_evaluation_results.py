"""What results say of themselves: images shared by train and test, digests, damage, hostile names, mistaken images."""

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from half_done_helpers import choose_as_before
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.cli import main
from hebbcore.evaluation.evaluate import evaluate
from hebbcore.evaluation.report import retrieval_table, write_report
from hebbcore.evaluation.results import Neighbours, Results

OPTIONS = {"layers": [], "baselines": ["pixels"], "fractions": [0.5, 1], "seeds": 1, "queries": 20}
OLD = Path(__file__).parent / "results_without_digest.json"


@pytest.fixture(scope="module")
def digits():
    """Return digits as uint8 images (n, 8, 8, 1), and labels."""
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8)[..., None], data.target.astype(np.int64)


@pytest.fixture(scope="module")
def network():
    """Return a small network."""
    return hebbcore.Network([hebbcore.Conv(3, 3)], (8, 8, 1), device="cpu")


class Named(loaders.ArrayStream):
    """A stream that knows the names of its images."""

    names = ()


def stream(digits, rows, labels=None, dtype=None, kind=loaders.ArrayStream):
    images = digits[0][rows]
    return kind(
        images if dtype is None else (images / 255).astype(dtype), digits[1][rows] if labels is None else labels
    )


def test_the_confusion_is_of_the_source_that_is_best_on_the_mean(tmp_path):
    pytest.importorskip("matplotlib")
    table = json.loads(OLD.read_text("utf-8"))
    entry = next(iter(table["sources"].values()))
    for name, figures in (("lucky", (10.0, 90.0)), ("good", (80.0, 81.0))):
        runs = [{"labels": 0.5, "seed": seed, "top1": top1, "top5": 95.0} for seed, top1 in enumerate(figures)]
        table["sources"][name] = {**entry, "runs": runs}
    table["sources"] = {name: table["sources"][name] for name in ("good", "lucky")}
    write_report(tmp_path, table, "title")
    assert "## Confusion: good\n" in (tmp_path / "report.md").read_text("utf-8")


def test_a_report_lists_a_k_once_that_an_earlier_version_noted_twice():
    results = Results.from_json(json.loads(OLD.read_text("utf-8")))
    first, *others = [entry for entry in results.sources.values() if entry.retrieval]
    first.retrieval = {metric: Neighbours([100] * 2, [30.0] * 2, [40.0] * 2) for metric in first.retrieval}
    for other in others:
        other.retrieval = None
    header, *rows = retrieval_table(results)
    assert header[2:] == ["P@100", "mAP@100"]
    assert [row[2:] for row in rows] == [["30.0", "40.0"]] * len(first.retrieval)


# Images of train that are images of test


@pytest.mark.parametrize("memory", ["1 MiB", "16 KiB"])
@pytest.mark.parametrize("dtype", [None, np.float32, np.float64])
def test_shared_images_are_told_of(network, digits, tmp_path, caplog, memory, dtype):
    warned = []  # whether it had been said at each step
    train = stream(digits, np.arange(300), dtype=dtype, kind=Named)
    train.names = [f"a/{i}.png" for i in range(300)]
    test = stream(digits, np.r_[400:450, 17, 450:480, 290, 17])  # the last digits, among others
    found = evaluate(
        network,
        train,
        test,
        tmp_path,
        **OPTIONS,
        memory=memory,
        progress=lambda step: warned.append(("seed" in step, "pixel for pixel" in caplog.text)),
    )
    assert found["shared"] == {
        "images": 3,
        "pairs": [
            {"test": {"image": 50}, "train": {"image": 17, "name": "a/17.png"}},
            {"test": {"image": 81}, "train": {"image": 290, "name": "a/290.png"}},
            {"test": {"image": 82}, "train": {"image": 17, "name": "a/17.png"}},
        ],
        "contradictions": 0,
    }
    text = (
        "3 of 83 images of test are images of train too, pixel for pixel, so that the figures do not tell of new "
        "images: test 50 = train a/17.png, test 81 = train a/290.png, test 82 = train a/17.png."
    )
    assert f"evaluate: {text}" in caplog.messages
    assert (False, False) in warned
    assert (True, False) not in warned  # no readout was fitted before
    pytest.importorskip("matplotlib")
    write_report(tmp_path, found, "title")
    assert text in (tmp_path / "report.html").read_text()
    assert "3 of 83 images of test are images of train too" in (tmp_path / "report.md").read_text()


def test_the_command_says_that_train_is_test(network, digits, tmp_path, capsys, caplog):
    pytest.importorskip("matplotlib")
    hebbcore.save(tmp_path / "network.h5", network)
    loaders.write_shards((digits[0][:200], digits[1][:200]), tmp_path / "x")
    data = str(tmp_path / "x")
    line = ["evaluate", str(tmp_path / "network.h5"), "--train", data, "--test", data, "--out", str(tmp_path / "out")]
    for _ in range(2):  # a finished evaluation says it too
        assert main([*line, "--labels", "100", "--baselines", "none", "--queries", "0"]) == 0
        printed = capsys.readouterr().out
        assert "evaluate: 200 of 200 images of test are" in caplog.text
        caplog.clear()
        assert "200 of 200 images of test are images of train too, pixel for pixel" in printed
        assert printed.count(" = train ") == 10
        assert ", …." in printed


def test_other_images_are_not_told_of(network, digits, tmp_path, caplog):
    train, test = stream(digits, slice(0, 300)), stream(digits, slice(300, 400))
    nearly = digits[0][:300].copy()
    nearly[:, 3, 3] ^= 1
    test = loaders.ArrayStream(nearly, digits[1][:300])
    found = evaluate(network, train, test, tmp_path, **OPTIONS)
    assert found["shared"] == {"images": 0, "pairs": [], "contradictions": 0}
    assert not caplog.messages


def test_equal_images_of_other_labels_are_told_of(network, digits, tmp_path, caplog):
    rows = np.r_[0:200, 5, 5, 7]
    labels = digits[1][rows]
    labels[-3:] = [1, digits[1][5], digits[1][7]]
    found = evaluate(network, stream(digits, rows, labels), stream(digits, slice(300, 400)), tmp_path, **OPTIONS)
    assert found["shared"]["contradictions"] == 3
    assert "evaluate: 3 images of train equal another one of another label, pixel for pixel." in caplog.messages


# What the file says of itself


def test_results_go_on_and_other_pixels_do_not(network, digits, tmp_path):
    class Renamed(loaders.ArrayStream):
        """A stream that takes its images for those of another one."""

        def state(self):
            return {"epoch": 0, "batch": 0}

    train, test = stream(digits, slice(0, 300), kind=Renamed), stream(digits, slice(300, 400), kind=Renamed)
    evaluate(network, train, test, tmp_path, **{**OPTIONS, "fractions": [1]})
    before = (tmp_path / "results.json").read_bytes()
    other = stream(digits, slice(301, 401), kind=Renamed)
    with pytest.raises(ValueError, match=r"results.json holds figures of other images of test, under the same names"):
        evaluate(network, train, other, tmp_path, **OPTIONS)
    assert (tmp_path / "results.json").read_bytes() == before
    again = evaluate(network, train, test, tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match=r"holds figures of other images of train"):  # of a finished evaluation too
        evaluate(network, stream(digits, slice(1, 301), kind=Renamed), test, tmp_path, **OPTIONS)
    whole = evaluate(network, train, test, tmp_path / "whole", **{**OPTIONS, "fractions": [1, 0.5]})
    assert again == whole


def test_results_of_the_version_before_go_on(network, digits, tmp_path, caplog, monkeypatch):
    # which held out a fifth of all labels; for few ones see test_half_done
    choose_as_before(monkeypatch, 0)
    old = json.loads(OLD.read_text())
    old["settings"]["weights"] = checkpoint.digest_of(network)
    assert "digest" not in old
    (tmp_path / "results.json").write_text(json.dumps(old))
    caplog.set_level("INFO")
    data = [stream(digits, rows) for rows in (slice(0, 300), slice(300, 420))]
    found = evaluate(network, *data, tmp_path, **{**OPTIONS, "fractions": [0.5, 1]})
    assert found["sources"] == old["sources"]
    assert found["shared"]["images"] == 0
    assert "has no digest of itself" in caplog.text
    found = evaluate(network, *data, tmp_path, **{**OPTIONS, "fractions": [0.25, 0.5, 1]})
    assert [run["labels"] for run in found["sources"]["pixels"]["runs"]] == [0.5, 1, 0.25]
    assert found["sources"]["pixels"]["runs"][:2] == old["sources"]["pixels"]["runs"]
    pytest.importorskip("matplotlib")
    write_report(tmp_path, old, "title")


@pytest.fixture(scope="module")
def finished(network, digits, tmp_path_factory):
    """Return a finished evaluation: streams and the text of its results."""
    folder = tmp_path_factory.mktemp("finished")
    data = [stream(digits, rows) for rows in (slice(0, 300), slice(300, 420))]
    evaluate(network, *data, folder, **OPTIONS)
    return data, (folder / "results.json").read_text()


def test_every_damaged_digit_is_noticed(network, finished, tmp_path):
    data, text = finished
    places = [match.start() for match in re.finditer(r"\d", text)]
    for place in places[:: max(1, len(places) // 60)]:
        digit = "1" if text[place] != "1" else "2"
        (tmp_path / "results.json").write_text(text[:place] + digit + text[place + 1 :])
        with pytest.raises(ValueError, match=r"results.json is damaged.*; name another folder, or remove the file"):
            evaluate(network, *data, tmp_path, **OPTIONS)


def _paths(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _paths(value[key], (*path, key))


@pytest.mark.parametrize(
    "wrong", [None, "text", -1, 1e308, float("nan"), [], {}, [{}], True, pytest.param(10**400, id="huge"), "\x1b[31m"]
)
def test_what_results_claim_is_checked_before_use(network, finished, tmp_path, wrong, capsys):
    """No value of a file without a digest makes anything but a ValueError, or a report."""
    pytest.importorskip("matplotlib")
    data, text = finished
    paths = list(_paths(json.loads(text)))
    for path in {tuple("0" if isinstance(key, int) else key for key in path): path for path in paths}.values():
        results = json.loads(text)
        del results["digest"]
        if not path or path == ("digest",):
            continue
        place = results
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = wrong
        (tmp_path / "results.json").write_text(json.dumps(results))
        with contextlib.suppress(ValueError):
            write_report(tmp_path, evaluate(network, *data, tmp_path, **OPTIONS), "title")
            assert "\x1b" not in (tmp_path / "report.md").read_text()


# Names


HOSTILE = [
    "a|b",
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "[x](http://y)",
    "`c`",
    "d\\|e",
    "$f$",
    "g",
    "h",
]


def test_hostile_names_are_harmless(digits, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    images, labels = digits
    network = hebbcore.Network([hebbcore.Conv(3, 3)], (8, 8, 1), device="cpu")
    hebbcore.save(tmp_path / "network.h5", network)
    for split, rows in (("train", slice(0, 200)), ("test", slice(100, 300))):
        loaders.write_shards((images[rows], labels[rows]), tmp_path / split, class_names=HOSTILE)
    out = tmp_path / "out"
    line = [
        "evaluate",
        str(tmp_path / "network.h5"),
        "--train",
        str(tmp_path / "train"),
        "--test",
        str(tmp_path / "test"),
    ]
    assert main([*line, "--out", str(out), "--labels", "100", "--baselines", "none", "--queries", "20"]) == 0
    printed = capsys.readouterr()
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    for shown in (printed.out, printed.err, text, page):
        assert "\x1b" not in shown
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown)
    for shown in (text, page):
        assert "<script" not in shown
        assert "\\x1b[31mred" in shown
    assert text.count("](") == 2 + text.count("\\](")  # the two pictures are the report's own
    assert "[x\\](http://y)" in text
    head = next(line for line in text.splitlines() if line.startswith("| true \\ predicted"))
    columns = re.split(r"(?<!\\)(?:\\\\)*\|", head)[1:-1]
    assert len(columns) == 1 + len(HOSTILE)
    assert text.count("\n| two\\\\nlines |") == 1


# Mistaken images


def test_mistaken_images_are_named(network, digits, tmp_path):
    images, labels = digits
    train = loaders.ArrayStream(images[:300], labels[:300])
    test = Named(images[300:700], labels[300:700])
    test.names = [f"scan {i:03d}" for i in range(400)]
    found = evaluate(network, train, test, tmp_path, **{**OPTIONS, "fractions": [0.05, 1]})
    (run,) = [run for run in found["sources"]["pixels"]["runs"] if run["labels"] == 1]
    wrong = round(400 * (1 - run["top1"] / 100))
    mistakes = found["mistakes"]["pixels"]
    assert len(mistakes) == min(50, wrong)
    assert [one["margin"] for one in mistakes] == sorted((one["margin"] for one in mistakes), reverse=True)
    for one in mistakes:
        assert one["name"] == f"scan {one['image']:03d}"
        assert one["true"] == labels[300 + one["image"]] != one["predicted"]
    assert len({one["image"] for one in mistakes}) == len(mistakes)
    pytest.importorskip("matplotlib")
    write_report(tmp_path, found, "title")
    first = mistakes[0]
    row = f"| {first['name']} | {first['true']} | {first['predicted']} | {first['margin']:.2f} |"
    assert row in (tmp_path / "report.md").read_text()
    assert f"<td>{first['name']}</td>" in (tmp_path / "report.html").read_text()


# In memory


def test_results_are_read_and_written_again_byte_for_byte(finished):
    results = Results.from_json(json.loads(finished[1]))
    assert json.dumps(results.as_json(), indent=1) + "\n" == finished[1]
    assert results.sources["pixels"].grid is None
    assert results.shares == [0.5, 1.0]
    old = json.loads(OLD.read_text())
    again = Results.from_json(old).as_json()
    assert again.pop("digest")
    assert again == old


def test_a_setting_that_a_file_does_not_say_has_its_default(network, finished, tmp_path):
    data, text = finished
    table = json.loads(text)
    del table["digest"], table["settings"]["mirror"]
    (tmp_path / "results.json").write_text(json.dumps(table))
    assert evaluate(network, *data, tmp_path, **OPTIONS)["sources"] == table["sources"]
    with pytest.raises(ValueError, match="mirror is True here and False there"):
        evaluate(network, *data, tmp_path, **OPTIONS, mirror=True)
    with pytest.raises(ValueError, match=r"holds another evaluation: .*shifts"):
        evaluate(network, *data, tmp_path, **OPTIONS, shifts=1)
    table["settings"]["unknown"] = 1  # of a later version: it may change the figures
    (tmp_path / "results.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"results.json is damaged, or not what this version writes"):
        evaluate(network, *data, tmp_path, **OPTIONS)
