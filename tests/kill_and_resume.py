"""Train with kill -9 at random moments until it is done; print what came out as JSON: `kill_and_resume.py CASE FOLDER`.

Run in a process of its own: it compiles everything once, then forks the children that train and are killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import hebbcore
import loaders
from hebbcore import checkpoint
from hebbcore.diagnostics import lines

KILLS = {"together": 9, "shards": 9, "layerwise": 4}


def network():
    """Return the network to train."""
    return hebbcore.Network(
        [
            hebbcore.Whiten(3), hebbcore.Conv(10, 1, "swta", learning_rate=0.3), hebbcore.Pool(2), hebbcore.BatchNorm(),
            hebbcore.Dense(12, "hpca", learning_rate=1e-2), hebbcore.BatchNorm(modified=True),
        ],
        seed=3,
    )  # fmt: skip


def data(case, folder):
    """Return digits as an array, or as shards."""
    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:, :, :, None]
    if case != "shards":
        return images
    shards = folder / "shards"
    if not shards.exists():
        loaders.write_shards((images, np.zeros(len(images), int)), shards)
    return loaders.ShardStream(shards, batch_size=30, shuffle=True, seed=1)


def train(case, folder, run):
    """Train into the folder run, on from where it is, and return a digest of the network."""
    options = {"epochs": 2, "batch_size": 30, "seed": 5, "checkpoint_minutes": 1e-4, "log_seconds": 0.01}
    if case == "layerwise":
        options |= {"mode": "layerwise", "cache": "disk"}
    net = hebbcore.fit(network(), data(case, folder), run=run, **options)
    return checkpoint.digest_of(net)


def main(case, folder):
    """Print the digests of the whole and the killed training, the number of kills, and what the metrics hold."""
    whole = train(case, folder, folder / "whole")
    random = np.random.default_rng(len(case))
    kills, attempt, longest = 0, 0, 0.3
    digests, torn = [], 0
    while kills < KILLS[case]:
        run, result = folder / f"run-{attempt}", folder / f"digest-{attempt}"
        attempt += 1
        while not result.exists():
            child = os.fork()
            if child == 0:
                partial = result.with_suffix(".partial")
                partial.write_text(train(case, folder, run))
                partial.rename(result)
                os._exit(0)
            time.sleep(random.uniform(0.02, longest))
            os.kill(child, signal.SIGKILL)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            longest *= 1.15  # so that what takes long without a checkpoint, as filling a cache, is done at last
        digests.append(result.read_text())
        text = (run / "metrics.jsonl").read_text()
        torn += len(text.splitlines()) - len(lines(run / "metrics.jsonl"))
    steps = [record["step"] for record in lines(run / "metrics.jsonl")]
    left = sorted(path.name for path in run.rglob("*") if "partial" in path.name or path.name.startswith("cache"))
    print(json.dumps({"whole": whole, "digests": digests, "kills": kills, "torn": torn, "steps": steps, "left": left}))


main(sys.argv[1], Path(sys.argv[2]))
