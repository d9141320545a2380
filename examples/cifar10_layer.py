"""One layer of whitened patches on CIFAR-10: what Hebbian rules add to random patches and k-means.

    python examples/cifar10_layer.py cifar10.h5 [--images 20000 --units 96 --kernel 5 --cells 4 --mirror]

Contrast normalised, whitened patches; units; what exceeds a threshold, split by sign; averages of cells × cells; square
root; standardised over the training images; ridge, whose penalty is chosen on a fifth of the labelled training images.
With 1 % of the labels, the penalty is chosen by leaving one out, and the figure is the mean of five stratified
selections. The banks of filters share all of it: those of rules, random patches, normal random numbers, k-means.
With --validate the last training images are scored instead of the test images: use it to choose anything.
"""

import argparse
import time

import h5py
import numpy as np
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler

import hebbcore
from hebbcore.evaluation import RidgeReadout, kmeans_centres, labelled_subset, random_filters, random_patches

RATES = {"hpca": 0.01, "swta": 0.1, "kwta": 0.1, "signedwta": 0.1, "softhebb": 0.1, "hardwta": 0.1, "krotov": 0.02}
FROM_PATCHES = ("swta", "kwta", "signedwta")  # the others start from weights of their own
BANKS = (*RATES, "patches", "random", "k-means")
PENALTIES = np.logspace(1, 5, 9)
SELECTIONS = 5  # of 1 % of the labels


def main() -> None:
    """Learn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="HDF5 file with train/ and test/, images and labels")
    parser.add_argument("--images", type=int, default=20_000, help="training images (default 20000)")
    parser.add_argument("--validate", type=int, default=0, help="score so many training images, kept out of training")
    parser.add_argument("--units", type=int, default=96)
    parser.add_argument("--kernel", type=int, default=5)
    parser.add_argument("--cells", type=int, default=4)
    parser.add_argument("--epsilon", type=float, default=0.1, help="of the whitening")
    parser.add_argument("--threshold", type=float, default=0.5, help="in standard deviations of the filters' responses")
    parser.add_argument("--rate", type=float, help="learning rate (default: the rule's)")
    parser.add_argument("--epochs", type=int, default=1, help="over 400,000 patches")
    parser.add_argument("--mirror", action="store_true", help="average over each image and its mirror image")
    parser.add_argument("--banks", nargs="+", default=["signedwta", "kwta", "patches", "k-means"], choices=BANKS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with h5py.File(args.file) as file:
        images, labels = (file[f"train/{key}"][: args.images] for key in ("images", "labels"))
        if args.validate:
            test_images, test_labels = (file[f"train/{key}"][-args.validate :] for key in ("images", "labels"))
            if len(images) + args.validate > len(file["train/labels"]):
                parser.error("--images and --validate overlap")
        else:
            test_images, test_labels = (file[f"test/{key}"][...] for key in ("images", "labels"))
    try:
        labelled_subset(labels, 0.01, args.seed, "stratified")
    except ValueError as error:
        parser.error(f"--images {len(labels)} are too few, of which 1 % shall have labels: {error}")
    print(f"{len(images):,} images, {args.units} units of {args.kernel}×{args.kernel}, {args.cells}×{args.cells} cells")
    print(f"{'bank':<12}{'all labels':>12}{'1 %':>14}{'seconds':>9}")
    for bank in args.banks:
        start = time.perf_counter()
        network = build(images, bank, args)
        features, test = (
            network.transform(part, mirror=args.mirror).reshape(len(part), -1) for part in (images, test_images)
        )
        scaler = StandardScaler(copy=False).fit(features)
        features, test = scaler.transform(features), scaler.transform(test)
        few = []
        for seed in range(args.seed, args.seed + SELECTIONS):
            rows = labelled_subset(labels, 0.01, seed, "stratified")
            readout = RidgeClassifierCV(PENALTIES).fit(features[rows], labels[rows])
            few.append(100 * readout.score(test, test_labels))
        readout = RidgeReadout(PENALTIES, validation_fraction=0.2, random_state=args.seed).fit(features, labels)
        accuracy = 100 * readout.score(test, test_labels)
        spread = f"{np.mean(few):.1f} ± {np.std(few, ddof=1):.1f}"
        print(f"{bank:<12}{accuracy:12.2f}{spread:>14}{time.perf_counter() - start:9.0f}", flush=True)
        del features, test


def build(images: np.ndarray, bank: str, args: argparse.Namespace) -> hebbcore.Network:
    """Return the network: whitening learned, and the filters of a bank, whose responses have standard deviation 1."""
    generator = np.random.default_rng(args.seed)
    network = hebbcore.Network(
        [
            hebbcore.Whiten(args.kernel, epsilon=args.epsilon),
            hebbcore.Conv(args.units, 1, linear=True),
            hebbcore.Split(args.threshold),
            hebbcore.GridPool(args.cells),
            hebbcore.Power(0.5),
        ],
        images.shape[1:],
        seed=args.seed,
    )
    whiten, conv = network.layers[:2]
    whiten.observe(images[generator.permutation(len(images))[:10_000]])
    whiten.settle()
    sample = images[generator.permutation(len(images))[:2000]]
    patches = network.transform(sample, "whiten1").reshape(-1, conv.weights.shape[3])
    patches = patches[generator.permutation(len(patches))[:400_000]]
    if bank == "k-means":
        filters = kmeans_centres(patches, args.units, args.seed)
    elif bank == "random":
        filters = random_filters(args.units, patches.shape[1], generator)
    else:
        filters = random_patches(patches, args.units, generator)
    if bank in RATES:
        layer = hebbcore.train_layer(
            patches, args.units, rule=bank, learning_rate=args.rate or RATES[bank], epochs=args.epochs, batch_size=4000,
            initial_weights=filters if bank in FROM_PATCHES else None, seed=args.seed,
        )  # fmt: skip
        filters = layer.weights
    filters = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    filters /= (patches @ filters.T).std()
    conv.weights = filters.reshape(conv.weights.shape)
    return network


if __name__ == "__main__":
    main()
