"""What an image costs, as counted by Network.gflop and as the products that are really made."""

import json
import subprocess
import sys

import numpy as np
import pytest
from cli_helpers import ENVIRONMENT
from conftest import ROOT

import hebbcore
from hebbcore.engine.gemm import Gemm
from hebbcore.evaluation.report import accuracy_table, write_report
from hebbcore.evaluation.results import Results
from hebbcore.features.choice import Features
from hebbcore.layers import Branches, Nystrom


def mixed(**options):
    """Return a network with every layer that multiplies matrices, some of them in a branch."""
    wide = hebbcore.Conv(6, 3, padding=1, stride=2, response="cosine-exp")
    deep = [hebbcore.Whiten(2, stride=2, components=5), hebbcore.Conv(7, (2, 1), linear=True), hebbcore.GridPool(2)]
    return hebbcore.Network(
        [
            hebbcore.Whiten(3, padding=1, centre=True),
            Branches([wide, hebbcore.GridPool(2), Nystrom()], deep),
            hebbcore.BatchNorm(),
            hebbcore.Whiten(epsilon=None),
            hebbcore.Dense(4),
        ],
        (9, 8, 3), device="cpu", **options,
    )  # fmt: skip


@pytest.fixture
def products(monkeypatch):
    """Return a list to which each matrix product adds its number of multiplications."""
    found, before = [], Gemm.multiply

    def multiply(self, a, b, out, add=0):
        found.append(a.shape[0] * a.shape[1] * b.shape[1])
        before(self, a, b, out, add)

    monkeypatch.setattr(Gemm, "multiply", multiply)
    return found


def test_the_cost_is_that_of_the_products_that_are_made(products):
    network = mixed()
    network.transform(np.zeros((1, 9, 8, 3), np.uint8))
    for name in network.names:
        products.clear()
        network.transform(np.zeros((3, 9, 8, 3), np.uint8), name)
        assert network.gflop(name) == pytest.approx(2 * sum(products) / 3 / 1e9), name
        products.clear()
        network.transform(np.zeros((3, 9, 8, 3), np.uint8), name, mirror=True)
        assert network.gflop(name, mirror=True) == pytest.approx(2 * sum(products) / 3 / 1e9), name
    assert network.gflop() == network.gflop(network.names[-1]) > network.gflop("conv1") > network.gflop("whiten1") > 0
    with pytest.raises(ValueError, match=r"Network\.gflop: layer must be one of"):
        network.gflop("conv9")


def test_the_cost_by_hand():
    network = mixed()
    first = 9 * 8 * 27 * 3
    wide = 5 * 4 * 27 * 6
    deep = 4 * 4 * 12 * 5 + 3 * 4 * 10 * 7
    assert network.gflop("whiten1") * 1e9 == pytest.approx(2 * first)
    assert network.gflop("conv1") * 1e9 == pytest.approx(2 * (first + wide))
    assert network.gflop("conv2") * 1e9 == pytest.approx(2 * (first + deep))  # the other branch is not on the way
    joined = first + wide + 2 * 2 * 6 * 6 + deep
    assert network.gflop("branches2") * 1e9 == pytest.approx(2 * joined)
    assert network.gflop() * 1e9 == pytest.approx(2 * (joined + 2 * 2 * 13 * 4))


def test_the_dictionary_costs_what_its_table_says():
    for units, expected in (((128, 1024, 400), 0.62), ((128, 64, 64, 25), 0.38), ((128, 1024, 1024, 400), 0.79)):
        network = hebbcore.preset("dictionary", image_shape=(32, 32, 3), units=units, device="cpu")
        assert round(network.gflop(mirror=True), 2) == expected


def test_features_cost_as_often_as_images_are_seen():
    network = mixed()
    once = Features.checked("test", network, "conv1", None, False).gflop
    assert once == network.gflop("conv1")
    assert Features.checked("test", network, "conv1", None, True, 1).gflop == pytest.approx(10 * once)


def test_a_report_of_figures_with_and_without_the_cost(tmp_path):
    pytest.importorskip("matplotlib")
    runs = [{"labels": 1.0, "seed": 0, "top1": 50.0, "top5": 90.0}]
    entry = {"features": 10, "cells": None, "runs": runs, "confusion": None, "retrieval": None}
    settings = {
        "weights": "", "train": {}, "test": {}, "readout": "ridge", "how": "published", "features": 10, "mirror": True,
        "queries": 0,
    }  # fmt: skip
    older = {"settings": settings, "classes": [], "sources": {"bn1": entry}}
    newer = {**older, "sources": {"bn1": entry, "bn2": {**entry, "gflop": 1.625}, "bn3": {**entry, "gflop": 0.0151}}}
    assert accuracy_table(Results.from_json(older), lambda run: run.top1)[0] == ["features", "number", "100 %"]
    found = Results.from_json(json.loads(json.dumps(newer)))
    assert found.sources["bn2"].gflop == 1.625
    assert found.as_json()["sources"] == newer["sources"]
    table = accuracy_table(found, lambda run: run.top1)
    assert [row[2] for row in table] == ["GFLOP", "", "1.62", "0.015"]
    for name, results, says in (("older", older, False), ("newer", newer, True)):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, results, "title")
        assert all(("GFLOP" in (tmp_path / name / f"report.{kind}").read_text()) == says for kind in ("md", "html"))
    for wrong in ("1", -1, float("nan")):
        with pytest.raises((ValueError, TypeError)):
            Results.from_json({**older, "sources": {"bn1": {**entry, "gflop": wrong}}})


def test_the_cost_of_an_accuracy_from_files_that_lack_rows(tmp_path):
    def file(name, *rows, validation=False):
        made = [
            {"method": method, "units": [128, units, units, 9], "seed": 0, "gflop_mirrored_image": cost, "top1": top1}
            for method, units, cost, top1 in rows
        ]
        (tmp_path / name).write_text(json.dumps({"about": {"validation": validation}, "rows": made}))

    def drawn(*names):
        command = [sys.executable, ROOT / "benchmarks" / "draw_dictionary.py", *(tmp_path / name for name in names)]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)

    file("first", ("learned", 64, 0.25, {"500": [50.0], "50000": [78.0]}), ("random", 64, 0.25, {"50000": [81.0]}))
    file(
        "second",
        ("learned", 256, 1.0, {"50000": [82.0]}),
        ("learned", 64, 0.25, {"50000": [10.0]}),  # the first file has it
        ("k-means", 64, 0.25, {"50000": [70.0]}),
        ("k-means", 256, 1.0, {"500": [90.0]}),  # not all labels
    )
    file("validation", ("random", 256, 1.0, {"50000": [70.0]}), validation=True)
    done = drawn("first", "second")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["k-means", "3", "layers", ">", "0.25", ">", "0.25"],
        ["learned", "3", "layers", "0.50", ">", "1.00"],
        ["random", "3", "layers", "≤", "0.25", ">", "0.25"],
    ]
    file("third", ("k-means", 256, 1.0, {"50000": [85.0], "500": [20.0]}))  # of a row that the second has in part
    assert " ".join(drawn("first", "second", "third").stdout.splitlines()[1].split()) == "k-means 3 layers 0.63 0.91"
    assert "draw them apart" in drawn("first", "validation").stderr
