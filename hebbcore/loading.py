"""hebbcore.load: whatever hebbcore has written for use, told apart by what is there."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Union

from hebbcore import checkpoint, checks
from hebbcore.layers import WORKSPACE, HebbianLayer
from hebbcore.network import Network

if TYPE_CHECKING:
    from hebbcore.labelling import Model


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    workspace: int | str = WORKSPACE,
    previous: bool = False,
) -> Union[Network, HebbianLayer, "Model"]:
    """Return the network or layer of a file that save wrote, the latest network of a run, or the model of a work.

    Parameters
    ----------
    path : path
        The file, HDF5 or .safetensors; the folder of a run; or the folder of a work of `hebbcore classify` or
        `hebbcore label`, or a copy of its model/, which is complete: another machine needs nothing else.
    device : {"auto", "cpu", "cuda"}
        Where its arrays go. A precision of CUDA alone ("tf32", "bf16") becomes "float32" on the CPU.
    workspace : int or str
        The network's: bytes, or text such as "256 MiB"; the `transform` of a layer takes its own.
    previous : bool
        If the latest checkpoint of a run is damaged, take the one before it.

    Returns
    -------
    Network, HebbianLayer or hebbcore.labelling.Model
        With the arrays of the file. The model of a work goes from images to labels: `predict`, `predict_proba`.

    Raises
    ------
    FileNotFoundError
        If there is no such file, and neither checkpoint nor model in the folder.
    ValueError
        If the file is damaged, was not written by hebbcore, or needs a rule or layer that no imported module has
        registered; if previous is given for a file or a model, or workspace for a layer.
    """
    checks.boolean("load", "previous", previous)
    place = Path(path)
    if checkpoint.model_folder(place) is None:
        return checkpoint.load(place, device=device, workspace=workspace, previous=previous)
    if previous:
        raise ValueError(f"load: previous is for the checkpoints of a run; {path} is a model, of which there is one.")
    from hebbcore.labelling.model import read_model  # loads scikit-learn

    return read_model("load", place, device, workspace)
