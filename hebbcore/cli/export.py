"""`hebbcore export`: a network, or a few-label model, as an ONNX file or its weights as safetensors."""

import argparse
from pathlib import Path
from typing import Any

import hebbcore
from hebbcore import checkpoint
from hebbcore.checks import printable
from hebbcore.cli.networks import load_network
from hebbcore.cli.options import add_import, add_mirror, add_network, add_previous
from hebbcore.export.onnx_file import DTYPES, onnx
from hebbcore.files import make_folder, parse_json
from hebbcore.formulas.images import CHANNELS
from hebbcore.runs.imports import import_modules
from hebbcore.safetensors import SUFFIX
from hebbcore.serialize import CONFIG


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `export` command to a command line."""
    command = commands.add_parser(
        "export",
        description="Write a network as an ONNX file: images in, the output of a layer out. With the folder of a work "
        "of hebbcore classify the file has the classifier too: images in, label and probabilities out. A .safetensors "
        "file gets the weights of a network.",
    )
    add_network(command)
    command.add_argument("out", type=Path, help="file to write, .onnx (extra onnx) or .safetensors")
    command.add_argument("--layer", help="whose output is wanted (default: the last)")
    add_mirror(command)
    default = "uint8; float32 of vectors, and of floating numbers that are not of 0…1"
    command.add_argument("--dtype", choices=DTYPES, help=f"of the images (default: {default})")
    command.add_argument("--channels", choices=CHANNELS, help="where images have their channels (default: last)")
    add_previous(command)
    add_import(command)
    command.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    out, source = options.out, options.network
    if out.suffix not in (".onnx", SUFFIX):
        raise ValueError(f"export: the file must end in .onnx or {SUFFIX}, got {out.name}.")
    is_model = checkpoint.model_folder(source) is not None
    if is_model:
        if options.previous:
            raise ValueError(f"export: --previous is for the folder of a run; {source} is a few-label model.")
        import_modules(options.imports)
        model: Any = hebbcore.load(source, device="cpu")
    else:
        model = load_network(source, options.imports, options.previous, device="cpu")
    make_folder(out.parent)
    if out.suffix == SUFFIX:
        _require_whole(options)
        hebbcore.save(out, model.network if is_model else model)
    else:
        onnx(
            model, out, options.layer, options.mirror, dtype=options.dtype, channels=options.channels or "last",
            metadata=_preset_of(source),
        )  # fmt: skip
    print(printable(str(out)))
    return 0


def _require_whole(options: argparse.Namespace) -> None:
    """Raise ValueError for options that say nothing of weights."""
    for name in ("layer", "mirror", "dtype", "channels"):
        if getattr(options, name):
            raise ValueError(f"export: --{name} is for .onnx; a file {SUFFIX} has the weights of the whole network.")


def _preset_of(run: Path) -> dict[str, str]:
    """Return the name of the preset that a run trained, as metadata; nothing if it is none."""
    try:
        table = parse_json((run / CONFIG).read_text("utf-8"))
        name = table["network"]["preset"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {"preset": name} if isinstance(name, str) else {}
