"""Learning that never ends: how rates must grow with the batch, and what each rule does when the stream changes.

    python benchmarks/endless.py cifar10.h5 --json benchmarks/results/endless.json

Data: images of CIFAR-10, grey, averaged to 8×8 pixels, and the digits of scikit-learn (8×8), each minus its mean and
divided by its norm. 32 units; those of rules that compete start from images. Every number is of images that were not
learned from, a tenth of each set.

batch    20,000 images once, in batches of 10 to 4,096: the fit for each rate.
tasks    five pairs of classes of CIFAR-10, one after the other, 8,000 images each.
digits   20,000 photographs, then the digits, as many times as make 20,000.
settled  as digits, but the photographs five times first; for those of rounds.
rounds   the tasks eight times over, for k-WTA, SoftHebb and hard WTA.

fit: of rules that compete the mean cosine (|cosine| for signed WTA) of an image and the unit nearest to it; of HPCA the
share of the images' energy in the space that its units span; of ICA 1 − ‖YᵀS/N − 1‖ / √units. moved: the mean of
‖w − w before‖ / ‖w before‖ in a part of the stream. dead: units nearest to none of the held-out images of a part.
"""

import argparse
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_digits

import hebbcore
from hebbcore import HPCA, ICA, KWTA, SWTA, HardWTA, Krotov, Rule, SignedWTA, SoftHebb
from hebbcore.engine.winners import responses

UNITS, BATCH, PART, ROUNDS = 32, 64, 20_000, 8
BATCHES, RATES = (10, 64, 512, 4096), (0.002, 0.01, 0.05, 0.25, 1.0)
OF_BATCHES = (KWTA(), SWTA(), SoftHebb(), HPCA())
Array = Any

LEARNERS: dict[str, tuple[Rule, dict[str, Any]]] = {  # in the streams that change
    "hpca": (HPCA(), {"learning_rate": "auto"}),
    "ica": (ICA(), {"learning_rate": 0.01}),
    "swta": (SWTA(), {"learning_rate": 0.1}),
    "kwta": (KWTA(), {"learning_rate": 0.1}),
    "kwta, revival": (KWTA(), {"learning_rate": 0.1, "revival": 50.0}),
    "kwta, conscience": (KWTA(), {"learning_rate": 0.1, "conscience": 0.05}),
    "signedwta": (SignedWTA(), {"learning_rate": 0.1}),
    "softhebb": (SoftHebb(), {"learning_rate": 0.05}),
    "softhebb, constant rate": (SoftHebb(adaptive_power=None), {"learning_rate": 0.05}),
    "softhebb, temperature 0.02": (SoftHebb(0.02), {"learning_rate": 0.05}),
    "softhebb, temperature 0.02, constant rate": (SoftHebb(0.02, adaptive_power=None), {"learning_rate": 0.05}),
    "hardwta": (HardWTA(), {"learning_rate": 0.05}),
    "hardwta, constant rate": (HardWTA(adaptive_power=None), {"learning_rate": 0.05}),
    "krotov": (Krotov(), {"learning_rate": 0.05}),
}
OF_ROUNDS = ["kwta", *(name for name in LEARNERS if name.startswith(("softhebb", "hardwta")))]


def main() -> None:
    """Measure, and print a line of JSON for each combination."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/images and train/labels")
    parts = ("batch", "tasks", "digits", "settled", "rounds")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where all lines go")
    args = parser.parse_args()
    with h5py.File(args.file) as file:
        images, labels = (file[f"train/{key}"][:40_000] for key in ("images", "labels"))
    photographs = directions(images.reshape(len(images), 8, 4, 8, 4, 3).mean(axis=(2, 4, 5)))
    digits = load_digits()
    streams = {
        "tasks": [parted(photographs[labels // 2 == pair][:8800]) for pair in range(5)],
        "digits": [parted(photographs[: PART + PART // 10]), parted(directions(digits.images))],
    }
    streams["settled"] = streams["digits"]
    lines = []
    for seed in range(args.seeds):
        found = of_batches(*streams["digits"][0], seed) if "batch" in args.parts else []
        for name in ("tasks", "digits", "settled"):
            found += of_a_stream(name, streams[name], seed) if name in args.parts else []
        lines += found + (of_rounds(streams["tasks"], seed) if "rounds" in args.parts else [])
    if args.json:
        machine = {"python": platform.python_version(), "numpy": np.__version__}
        args.json.write_text(json.dumps({"machine": machine, "lines": lines}, indent=1) + "\n")


def directions(images: Array) -> Array:
    """Return images as vectors minus their means and of length 1."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)


def parted(rows: Array) -> tuple[Array, Array]:
    """Return rows to learn from, and a tenth that is held out, in another order."""
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[len(rows) // 10 :], rows[: len(rows) // 10]


def learned(rule: Rule, rows: Array, weights: Array | None, seed: int, epochs: int = 1, **options: Any) -> Array:
    """Return the weights after some epochs, from weights, or from a start of the rule's."""
    start: Any = weights
    if weights is None:
        start = "patches" if rule.competes else "rule"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of units that win nothing, which are counted
        return hebbcore.train_layer(
            rows, UNITS, rule=rule, initial_weights=start, seed=seed, epochs=epochs, device="cpu",
            **{"batch_size": BATCH, **options},
        ).weights  # fmt: skip


def fit_of(rule: Rule, weights: Array, rows: Array) -> tuple[float, int | None]:
    """Return how well units fit rows, and how many are nearest to none; None where units do not compete."""
    weights = weights.astype(np.float64)
    if isinstance(rule, ICA):
        scores = rows @ weights.T
        product = np.tanh(scores).T @ scores / len(rows)
        return float(1 - np.linalg.norm(product - np.eye(UNITS)) / UNITS**0.5), None
    if not rule.competes:
        _, values, basis = np.linalg.svd(weights, full_matrices=False)
        return float(((rows @ basis[values > 1e-3 * values[0]].T) ** 2).sum() / (rows**2).sum()), None
    cosines = responses(SignedWTA(), rows, weights)
    cosines = np.abs(cosines) if rule.signed else cosines
    return float(cosines.max(axis=1).mean()), UNITS - len(np.unique(cosines.argmax(axis=1)))


def told(line: dict[str, Any]) -> dict[str, Any]:
    """Print a line, and return it."""
    line = {key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()}
    print(json.dumps(line), flush=True)
    return line


def of_batches(rows: Array, held_out: Array, seed: int) -> list[dict[str, Any]]:
    """Return the fit for each rule, size of the batch and rate."""
    lines = []
    for rule in OF_BATCHES:
        for size in BATCHES:
            for rate in RATES:
                rate = rate * (20 if isinstance(rule, HPCA) else 1)  # its patches have an eigenvalue of about 0.3
                try:
                    weights = learned(rule, rows[:PART], None, seed, batch_size=size, learning_rate=rate)
                    fit, dead = fit_of(rule, weights, held_out)
                except FloatingPointError:
                    fit, dead = float("nan"), None
                line = {"part": "batch", "rule": repr(rule), "batch": size, "rate": rate, "seed": seed}
                lines.append(told({**line, "fit": fit if np.isfinite(fit) else None, "dead": dead}))
    return lines


def of_a_stream(name: str, parts: list[tuple[Array, Array]], seed: int) -> list[dict[str, Any]]:
    """Return for each learner and part of a stream how it fits this part and the first one, and how far it moved."""
    lines = []
    for learner in OF_ROUNDS if name == "settled" else LEARNERS:
        (rule, options), weights, first = LEARNERS[learner], None, parts[0][1]
        for number, (rows, held_out) in enumerate(parts):
            begun, epochs = time.perf_counter(), max(1, round(len(parts[0][0]) / len(rows)))
            epochs = 5 if name == "settled" and not number else epochs
            before, weights = weights, learned(rule, rows, weights, seed, epochs, **options)
            fit, dead = fit_of(rule, weights, held_out)
            line = {"part": name, "learner": learner, "number": number, "seed": seed, "fit": fit, "dead": dead}
            line["first"] = fit_of(rule, weights, first)[0]
            line["alone"] = fit_of(rule, learned(rule, rows, None, seed, epochs, **options), held_out)[0]
            if before is not None:
                line["moved"] = moved(before, weights)
            lines.append(told({**line, "seconds": round(time.perf_counter() - begun, 1)}))
    return lines


def moved(before: Array, after: Array) -> float:
    """Return how far units went, on average in parts of their norms."""
    return float((np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1).clip(1e-12)).mean())


def of_rounds(parts: list[tuple[Array, Array]], seed: int) -> list[dict[str, Any]]:
    """Return for some learners and each round of a stream's parts how they fit the last part and the first, at its end.

    moved: in a part, on average over the round.
    """
    lines = []
    for learner in OF_ROUNDS:
        (rule, options), weights = LEARNERS[learner], None
        for number in range(ROUNDS):
            ways = []
            for rows, _ in parts:
                before, weights = weights, learned(rule, rows, weights, seed, **options)
                ways += [] if before is None else [moved(before, weights)]
            fit, dead = fit_of(rule, weights, parts[-1][1])
            line = {"part": "rounds", "learner": learner, "number": number, "seed": seed, "fit": fit, "dead": dead}
            line |= {"first": fit_of(rule, weights, parts[0][1])[0], "moved": float(np.mean(ways))}
            norms = np.linalg.norm(weights, axis=1)
            lines.append(told({**line, "norm_min": float(norms.min()), "norm_max": float(norms.max())}))
    return lines


if __name__ == "__main__":
    main()
