"""Fine-tune a network that learned without labels by gradient descent, on some of CIFAR-10's labels.

    hebbcore train examples/cifar10_fasthebb6.toml --out runs/fasthebb6 --set data.path=cifar10.h5
    python examples/fine_tune.py runs/fasthebb6 cifar10.h5 --percent 1 10

Needs PyTorch. The protocol is FastHebb's (Lagani et al. 2022): dropout 0.5 and a linear classifier behind the network,
all of it trained by SGD with Nesterov's momentum 0.9 on batches of 64, 20 epochs at a rate of 1e-3 that is halved each
epoch from the 10th. Beside it: the same from random weights; and the frozen network with a ridge classifier, and with
the few-label classifier, which sees the training images without labels too; --only runs one half of this. Mean over
--seeds selections of labelled images, as many of each class, and its 95 % interval. A file of --out gets the first
fine-tuned network.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import hebbcore
from hebbcore.bridges.torch import from_module, to_module
from hebbcore.classify import FewLabelClassifier
from hebbcore.evaluation import RidgeReadout, labelled_subset, mean_interval

EPOCHS, HALVED_FROM, RATE, BATCH = 20, 10, 1e-3, 64
COLUMNS = {"fine-tuned": ("fine-tuned", "from random"), "frozen": ("frozen, ridge", "frozen, few")}
Array = Any


def fine_tuned(body: Any, images: Any, labels: Any, seed: int) -> Any:
    """Return the body, a module of features, trained with a linear classifier behind it."""
    torch.manual_seed(seed)
    with torch.no_grad():
        features = body.eval()(images[:1]).numel()
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(features, 10))
    model = torch.nn.Sequential(body, head).to(images.device).train()
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, nesterov=True)
    for epoch in range(1, EPOCHS + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE / 2 ** max(0, epoch - HALVED_FROM + 1)
        for rows in torch.randperm(len(images), device=images.device).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def with_random_weights(body: Any) -> Any:
    """Return the body with weights that have learned nothing; statistics stay."""
    with torch.no_grad():
        for weights in body.parameters():
            bound = 1 / math.sqrt(weights[0].numel())
            weights.uniform_(-bound, bound)
    return body


def accuracy(model: Any, images: Any, labels: Any) -> float:
    """Return the accuracy in per cent."""
    pairs = zip(images.split(500), labels.split(500), strict=True)
    with torch.no_grad():
        right = sum(int((model(some).argmax(1) == own).sum()) for some, own in pairs)
    return 100 * right / len(images)


class Frozen:
    """Classifiers on features as they are: (training, test)."""

    def __init__(self, features: tuple[Array, Array], labels: Array, test_labels: Array) -> None:
        self._train, self._test = (each.reshape(len(each), -1) for each in features)
        self._labels, self._test_labels = labels, test_labels
        self._few = FewLabelClassifier().fit(self._train, np.full(len(labels), -1))

    def accuracies(self, where: Array) -> list[float]:
        """Return those of a ridge, and of the few-label classifier, that learned these images' labels."""
        ridge = RidgeReadout(standardize=True).fit(self._train[where], self._labels[where])
        known = np.full(len(self._labels), -1)
        known[where] = self._labels[where]
        few = self._few.relearn(known)
        return [100 * each.score(self._test, self._test_labels) for each in (ridge, few)]


def main() -> None:
    """Fine-tune, compare, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="folder of a run, or a file of hebbcore.save")
    parser.add_argument("cifar10", help="HDF5 file with train/ and test/, images and labels")
    parser.add_argument("--layer", help="whose output is classified (default: the last)")
    parser.add_argument("--percent", type=float, nargs="+", default=[1, 10], help="of the labels (default: 1 10)")
    parser.add_argument("--seeds", type=int, default=1, help="selections of labelled images (default: 1)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="PyTorch's")
    parser.add_argument("--only", choices=COLUMNS, help="what is compared (default: all)")
    parser.add_argument("--out", type=Path, help="file for the first fine-tuned network")
    args = parser.parse_args()

    with h5py.File(args.cifar10) as file:
        train, labels = file["train/images"][:], file["train/labels"][:].astype(np.int64)
        test, test_labels = file["test/images"][:], file["test/labels"][:].astype(np.int64)
    network = hebbcore.load(args.network)
    halves = [args.only] if args.only else list(COLUMNS)
    if "frozen" in halves:
        features = network.transform(train, args.layer), network.transform(test, args.layer)
        frozen = Frozen(features, labels, test_labels)
    on = [torch.from_numpy(array).to(args.device) for array in (train, labels, test, test_labels)]
    headings = [heading for half in halves for heading in COLUMNS[half]]
    print(f"{'labels':<10}" + "".join(f"{heading:>16}" for heading in headings) + f"{'seconds':>10}")
    for percent in args.percent:
        start, rows = time.perf_counter(), []
        for seed in range(args.seeds):
            where = labelled_subset(labels, percent / 100, seed, "stratified")
            some = torch.from_numpy(where).to(args.device)
            row: list[float] = []
            for prepare in (lambda body: body, with_random_weights) if "fine-tuned" in halves else ():
                body = prepare(to_module(network, args.layer).to(args.device))
                model = fine_tuned(body, on[0][some], on[1][some], seed)
                row.append(accuracy(model, on[2], on[3]))
                if args.out:
                    hebbcore.save(args.out, from_module(model[0]))
                    args.out = None  # the first alone
            rows.append(row + (frozen.accuracies(where) if "frozen" in halves else []))
        figures = [str(mean_interval(each)) if args.seeds > 1 else f"{each[0]:.1f}" for each in zip(*rows, strict=True)]
        means = "".join(figure.rjust(16) for figure in figures)
        print(f"{percent:g} %".ljust(10) + means + f"{time.perf_counter() - start:10.0f}", flush=True)


if __name__ == "__main__":
    main()
