"""A training that may be stopped, for the tests of what goes on."""

import json

from fit_helpers import network

import hebbcore

MODES = {
    "together": {},
    "layerwise": {"mode": "layerwise"},
    "memory": {"mode": "layerwise", "cache": "memory"},
    "disk": {"mode": "layerwise", "cache": "disk"},
    "sample": {"mode": "layerwise", "sample": 40, "seed": 3},
    "partly": {"mode": "layerwise", "cache": "disk", "cache_bytes": 18_000},  # conv2's input fits, conv1's does not
}
# the images of the whitening's pass end within a batch
OPTIONS = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1, "schedule": "linear", "statistics_images": 20}


class Stopped(Exception):
    pass


def train(data, run=None, mode="together", net=None, callback=None, **options):
    """Return the network (float32, with whitening) after a training that records every step."""
    net = network(True, "float32") if net is None else net
    settings = {**OPTIONS, **MODES[mode], **options}
    if run is not None or callback is not None:
        settings.setdefault("log_seconds", 0)
    if isinstance(data, list):
        del settings["batch_size"]
    return hebbcore.fit(net, data, run=run, callback=callback, **settings)


def steps_of(run):
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def told_of_passes(run):
    """Return what the metrics of a run tell of whole passes: who won, and how many images were judged right."""
    keys = ("pass_dead", "pass_winners", "units")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    layers = {
        (record["step"], name): [layer[key] for key in keys]
        for record in records
        for name, layer in record["layers"].items()
        if keys[0] in layer
    }
    judged = {record["step"]: [record["accuracy"], record["labelled"]] for record in records if "accuracy" in record}
    assert layers
    return layers, judged


def stop_at(step):
    def callback(record):
        if record["step"] == step:
            raise Stopped

    return callback
