"""Few labels of few features: FewLabelClassifier beside scikit-learn's classifiers on its small data sets.

    python benchmarks/few_features.py [--json FILE] [--labels 1 3 10] [--draws 6]

`--labels` of each class are known; the accuracy is that of the guesses for all others, in percent, the mean of
`--draws` selections. As many labels of each class say nothing of their shares: FewLabelClassifier takes even ones, and
once the true ones. scikit-learn's classifiers get standardised features. The first sets are those on which the likeness
of images (hebbcore/classify/likeness.py) was chosen; the last three, made of random numbers, were looked at when it
stood.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import machine
import numpy as np
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from hebbcore.classify import FewLabelClassifier


def sets() -> dict[str, Any]:
    """Return (features, classes) by name."""
    found = {
        "iris": datasets.load_iris(return_X_y=True),
        "wine": datasets.load_wine(return_X_y=True),
        "breast cancer": datasets.load_breast_cancer(return_X_y=True),
        "digits, pixels": datasets.load_digits(return_X_y=True),
        "blobs of 2 features": datasets.make_blobs(300, 2, centers=4, cluster_std=1.5, random_state=1),
        "moons": datasets.make_moons(400, noise=0.08, random_state=0),
        "20 features, 6 of use": datasets.make_classification(
            1000, 20, n_informative=6, n_classes=3, random_state=0
        ),
        "circles": datasets.make_circles(400, noise=0.1, factor=0.4, random_state=0),
        "shells of 5 features": datasets.make_gaussian_quantiles(
            n_samples=600, n_features=5, n_classes=3, random_state=0
        ),
        "Hastie's, 10 features": datasets.make_hastie_10_2(1000, random_state=0),
    }  # fmt: skip
    return {name: (features, classes.astype(int)) for name, (features, classes) in found.items()}


def guesses(features: Any, classes: Any, y: Any) -> dict[str, Any]:
    """Return the labels that each classifier gives to all images of these classes; y: −1 where it sees none."""
    known, rows = y >= 0, StandardScaler().fit_transform(features)
    found = {"FewLabelClassifier": FewLabelClassifier().fit(features, y).transduction_}
    given = FewLabelClassifier(prior=np.bincount(classes) / len(classes))
    found["the same, shares given"] = given.fit(features, y).transduction_
    found["LabelSpreading"] = LabelSpreading("knn", n_neighbors=10).fit(rows, y).transduction_
    for name, model in (
        ("logistic regression", LogisticRegression(max_iter=2000)), ("nearest neighbour", KNeighborsClassifier(1)),
    ):  # fmt: skip
        found[name] = model.fit(rows[known], y[known]).predict(rows)
    return found


def main() -> None:
    """Measure every set, and print a line for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--draws", type=int, default=6)
    args = parser.parse_args()
    rows = []
    for name, (features, classes) in sets().items():
        classes = np.unique(classes, return_inverse=True)[1]
        for labels in args.labels:
            found: dict[str, list[float]] = {}
            for draw in range(args.draws):
                order, y = np.random.default_rng(draw).permutation(len(classes)), np.full(len(classes), -1)
                for number in range(classes.max() + 1):
                    y[order[classes[order] == number][:labels]] = number
                hidden = y < 0
                for who, made in guesses(features, classes, y).items():
                    found.setdefault(who, []).append(100 * float(np.mean(made[hidden] == classes[hidden])))
            rows.append({"set": name, "images": len(classes), "labels_of_a_class": labels, "accuracy": found})
            means = ", ".join(f"{who} {np.mean(each):.1f}" for who, each in found.items())
            print(f"{name}, {labels} of each class: {means}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(machine.about() | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
