"""The model of a training on clusters counts what layers compute and send, and says what was measured here."""

import math

import numpy as np
import pytest
from conftest import ROOT

import hebbcore
from hebbcore.engine.group.pack import Pack

RING = 6  # latencies of eight processes: 2 log₂ 8


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cost_model

    return cost_model


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cluster

    return cluster


@pytest.fixture
def measured(cluster, monkeypatch):
    """What was measured, without the networks that take long to make."""
    read = cluster.read

    def small(name):
        found = read(name)
        found["rows"] = [row for row in found.get("rows", ()) if "imagenet" not in row.get("preset", "")]
        return found

    monkeypatch.setattr(cluster, "read", small)
    return cluster.Measured()


def place(model, **more):
    """Return a place where each FLOP takes a nanosecond, each layer a second, and nothing else takes time."""
    link = model.Link(1.0, 1e9)
    given = {"device": "cpu", "speed": np.array([1.0, 0, 1e-9, 0, 0]), "inside": link, "outside": link, "host": link}
    return model.Place(**{**given, **more})


@pytest.mark.parametrize("name", ["fasthebb-6", "softhebb-cifar"])
def test_work_is_that_of_the_layers(model, name):
    network = hebbcore.preset(name, rule=None if name.startswith("softhebb") else "swta", device="cpu")
    parts = model.parts_of(network)
    work = sum(model.work_of(part, 10, 10, "cpu") for part in parts)
    assert work[model.WORK.index("layers")] == len(network)
    assert work[model.WORK.index("weights")] == 4 * network.parameters
    # forward and Gᵀ X
    assert work[model.WORK.index("flop")] == pytest.approx(2 * 10 * network.gflop() * 1e9)


def test_the_decay_of_hpca_costs_what_its_order_does(model):
    part = model.Part(1, 4096, 2304, True, 1, ())
    flop = model.WORK.index("flop")
    many, few = (model.work_of(part, 0, batch, "cpu")[flop] for batch in (2**16, 64))
    assert many == 4096**2 * 2304  # the Gram order, whatever a process's share
    assert few == 2 * 4096 * 48 * 2304
    assert model.work_of(part, 10, 2**16, "cpu")[flop] == 4 * 10 * 4096 * 2304 + 4096**2 * (10 + 2304)


def test_messages_are_those_that_layers_send(model):
    network = hebbcore.Network(
        [hebbcore.Conv(8, 3), hebbcore.BatchNorm(), hebbcore.Flatten(), hebbcore.Dense(5)], (8, 8, 3), device="cpu"
    )
    parts = model.parts_of(network)
    packs = [Pack(part.units, part.size, np.dtype(np.float32), "cpu") for part in parts]
    assert [part.message for part in parts] == [pack._whole.nbytes for pack in packs]
    assert [part.channels for part in parts] == [(8,), ()]


def test_bytes_are_those_that_were_measured(model, cluster):
    runs = [row for row in cluster.read("scaling_cpu.json")["rows"] if row.get("bytes_a_step")]
    assert {row["processes"] for row in runs} == {2, 4}
    for row in runs:
        parts = cluster.network_parts(row["preset"])
        small = sum(8 * (2 * channels + 1) for part in parts for channels in part.channels)
        assert sum(part.message for part in parts) + small == pytest.approx(row["bytes_a_step"], rel=1e-3)
        assert row["messages_a_step"] == len(parts) + sum(len(part.channels) for part in parts)


def test_a_step_is_its_share_and_its_messages(model):
    part = model.Part(1, 10, 100, False, 1, ())
    flop = 4 * 10 * 100 * 1e-9
    alone, together = (model.step([part], 64, n, place(model)) for n in (1, 8))
    assert alone == pytest.approx({**dict.fromkeys(model.SPENT, 0.0), "images": 64 * flop, "fixed work": 1.0})
    assert together["images"] == pytest.approx(8 * flop)
    assert together["latency"] == RING
    assert together["bytes"] == pytest.approx(2 * 7 / 8 * part.message / 1e9)
    uneven = model.step([part], 9, 8, place(model))
    assert uneven["images"] + uneven["uneven"] == pytest.approx(2 * flop)
    assert model.limit(together) == "latency"


def test_reading_goes_on_beside(model):
    part = model.Part(1, 10, 100, False, 1, ())
    assert sum(model.step([part], 64, 1, place(model, reading=1.0)).values()) == 64
    slow = model.step([part], 64, 8, place(model, storage=0.5))
    assert sum(slow.values()) == 128
    assert model.limit(slow) == "reading"


def test_messages_may_travel_while_layers_compute(model):
    part = model.Part(1, 10, 100, False, 10, ())  # ten seconds of computing, six of its message
    first, second = (sum(model.step([part, part], 8, 8, place(model, overlap=o)).values()) for o in (False, True))
    assert first - second == pytest.approx(RING, abs=0.01)  # that of the first part


def test_machines_are_joined_by_a_slower_link(model):
    part = model.Part(1, 10, 100, False, 1, ())
    split = place(model, inside=model.Link(0.0, 1e9), together=8)
    assert model.step([part], 64, 8, split)["latency"] == 0
    assert model.step([part], 64, 16, split)["latency"] == 8


def test_more_processes_never_gain_more_than_their_number(model, cluster):
    parts, somewhere = cluster.network_parts("fasthebb-6"), place(model)
    values = [model.efficiency(parts, 4096, n, somewhere) for n in (1, 2, 4, 8, 64, 512)]
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    batch = model.needed(parts, 64, somewhere, 0.8)
    less, enough = (model.efficiency(parts, images, 64, somewhere) for images in (batch * 8 // 10, batch))
    assert batch % 64 == 0
    assert less < 0.8 <= enough
    assert model.needed(parts, 64, place(model, storage=1e-9), 0.8) is None


def test_fits_find_the_speeds_that_made_the_measurements(model, generator):
    speed = np.array([1e-3, 0, 1e-11, 1e-10, 1e-9])
    work = generator.uniform(1, 10, (12, 5)) * np.array([1, 1, 1e8, 1e7, 1e6])
    np.testing.assert_allclose(model.fitted(work, work @ speed), speed, atol=1e-13)
    np.testing.assert_allclose(model.fitted(work, work @ speed, {2: 1e-11}), speed, atol=1e-13)
    link = model.Link(1e-4, 3e9)
    seen = [
        (n, share, size, sum(model.Link(link.latency, link.bandwidth * share).seconds(size, n)))
        for n, share in ((2, 1), (4, 0.5)) for size in (2**20, 2**24)
    ]  # fmt: skip
    np.testing.assert_allclose(model.fitted_link(seen), link)


def test_the_model_says_what_was_measured(model, cluster, measured):
    """Runs of two and four processes, by speeds of one process and of sums alone."""
    assert np.abs(measured.core.errors).max() < 0.1
    assert len(measured.runs) >= 5
    for row in measured.runs:
        here = measured.here(row["cores"] / row["processes"])
        said = model.rate(cluster.network_parts(row["preset"]), row["batch"], row["processes"], here)
        assert math.log(said / row["images_per_second"]) == pytest.approx(0, abs=0.1)
