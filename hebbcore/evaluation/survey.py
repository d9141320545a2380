"""What an evaluation looks at before it computes any feature."""

from typing import Any


def class_names(function: str, train: Any, test: Any) -> tuple[str, ...]:
    """Return the names of the classes 0, 1, … as far as the streams' `class_names` know them.

    Raises ValueError if they give one number to different classes. One of them may know more classes than the other.
    """
    mine, theirs = (tuple(getattr(stream, "class_names", ())) for stream in (train, test))
    for label, (here, there) in enumerate(zip(mine, theirs, strict=False)):
        if here != there:
            raise ValueError(
                f"{function}: train and test must number their classes alike, but class {label} is {here!r} in train "
                f"and {there!r} in test; build the test set with the training set's classes (of class folders: with an "
                "empty folder for each class that has no image)."
            )
    return max(mine, theirs, key=len)
