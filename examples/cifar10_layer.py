"""One layer of whitened patches on CIFAR-10: what Hebbian learning adds to random patches and k-means.

    python examples/cifar10_layer.py cifar10.h5 [--images 20000 --units 96 --kernel 5 --cells 4 --rule kwta]

Contrast normalised, whitened patches; units; what exceeds a threshold, split by sign; averages of cells × cells; square
root; ridge, whose penalty is chosen on a fifth of the labelled training images. The banks of filters share all of it:
learned by the rule (from random patches on), the random patches, and k-means. The test images are scored once a bank.
"""

import argparse
import time

import h5py
import numpy as np

import hebbcore
from hebbcore.evaluation import RidgeReadout, kmeans_centres, labelled_subset, random_patches


def main() -> None:
    """Learn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/ and test/, images and labels")
    parser.add_argument("--images", type=int, default=20_000, help="training images (default 20000)")
    parser.add_argument("--units", type=int, default=96)
    parser.add_argument("--kernel", type=int, default=5)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--threshold", type=float, default=0.5, help="in deviations of the filters' responses")
    parser.add_argument("--rule", default="kwta", choices=hebbcore.RULES)
    parser.add_argument("--rate", type=float, default=0.1, help="learning rate")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--banks", nargs="+", default=["learned", "patches", "k-means"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with h5py.File(args.file) as file:
        images, labels = (file[f"train/{key}"][: args.images] for key in ("images", "labels"))
        test_images, test_labels = (file[f"test/{key}"][...] for key in ("images", "labels"))
    few = labelled_subset(labels, 0.01, args.seed, "stratified")
    print(f"{len(images):,} images, {args.units} units of {args.kernel}×{args.kernel}, {args.cells}×{args.cells} cells")
    print(f"{'bank':<10}{'all labels':>12}{'1 %':>8}{'seconds':>9}")
    for bank in args.banks:
        start = time.perf_counter()
        network = hebbcore.Network(
            [
                hebbcore.Whiten(args.kernel),
                hebbcore.Conv(args.units, 1, args.rule, learning_rate=args.rate),
                hebbcore.Split(args.threshold),
                hebbcore.GridPool(args.cells),
                hebbcore.Power(0.5),
            ],
            images.shape[1:],
            seed=args.seed,
        )
        fill(network, images, bank, args)
        features = network.transform(images).reshape(len(images), -1)
        test = network.transform(test_images).reshape(len(test_images), -1)
        scores = []
        for rows in (np.arange(len(labels)), few):
            readout = RidgeReadout(
                alphas=np.logspace(1, 4, 7), standardize=True, validation_fraction=0.2, random_state=args.seed
            )
            readout.fit(features[rows], labels[rows])
            scores.append(100 * float((readout.predict(test) == test_labels).mean()))
        print(f"{bank:<10}{scores[0]:12.2f}{scores[1]:8.2f}{time.perf_counter() - start:9.0f}", flush=True)
        del features, test


def fill(network: hebbcore.Network, images: np.ndarray, bank: str, args: argparse.Namespace) -> None:
    """Learn the whitening, and give the convolution its filters, of responses with deviation 1."""
    generator = np.random.default_rng(args.seed)
    whiten, conv = network.layers[0], network["conv1"]
    whiten.observe(images[generator.permutation(len(images))[:10_000]])
    whiten.settle()
    sample = images[generator.permutation(len(images))[:2000]]
    patches = network.transform(sample, "whiten1").reshape(-1, conv.weights.shape[3])
    patches = patches[generator.permutation(len(patches))[:400_000]]
    if bank == "k-means":
        filters = kmeans_centres(patches, args.units, args.seed)
    else:
        filters = random_patches(patches, args.units, generator)
    if bank == "learned":
        layer = hebbcore.train_layer(
            patches, args.units, rule=args.rule, learning_rate=args.rate, epochs=args.epochs, batch_size=4000,
            initial_weights=filters, seed=args.seed,
        )  # fmt: skip
        filters = layer.weights
    filters = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    scale = (patches @ filters.T).std()
    # the output of k-WTA is cut at 0; that of hard WTA keeps the sign, which Split needs
    linear = hebbcore.Conv(args.units, 1, "hardwta", name="conv1")
    linear.build(network.site, network.shapes[0], generator)
    linear.restore({"weights": (filters / scale).reshape(args.units, 1, 1, -1).astype(np.float32)})
    network.layers[1] = linear


if __name__ == "__main__":
    main()
