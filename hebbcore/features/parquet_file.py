"""Features as a Parquet file, a row for each image."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hebbcore.features.blocks import Block, Stored
from hebbcore.files import parse_json

_SETTINGS, _DIGEST, _CLASSES = b"hebbcore.settings", b"hebbcore.digest", b"hebbcore.classes"


def write(stored: Stored, arrays: dict[str, Any], path: Path) -> None:
    """Write a table with the columns name (if there are names), label and features, a list of one length."""
    import pyarrow
    from pyarrow import parquet

    size = math.prod(stored.settings["shape"])
    fields = [
        ("label", pyarrow.int64()),
        ("features", pyarrow.list_(pyarrow.from_numpy_dtype(arrays["features"].dtype), size)),
    ]
    if arrays.get("names") is not None:
        fields = [("name", pyarrow.string()), *fields]
    metadata = {_SETTINGS: json.dumps(stored.settings).encode(), _DIGEST: stored.digest.encode()}
    if stored.classes:
        metadata[_CLASSES] = json.dumps(list(stored.classes)).encode()
    schema = pyarrow.schema(fields, metadata)
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for features, labels, names in stored.blocks():
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), size)
            columns = [pyarrow.array(labels), rows]
            writer.write_table(pyarrow.table(columns if names is None else [names, *columns], schema))


def read(path: Path) -> Stored:
    """Return what a file holds. Raises ValueError and others if it is damaged."""
    from pyarrow import parquet

    file = parquet.ParquetFile(path, page_checksum_verification=True)
    metadata = file.schema_arrow.metadata or {}
    settings: dict[str, Any] = dict(parse_json(metadata[_SETTINGS]))
    has_names = "name" in file.schema_arrow.names

    def blocks() -> Iterator[Block]:
        for group in range(file.metadata.num_row_groups):  # each is a block as it was written
            table = file.read_row_group(group).combine_chunks()
            features = table.column("features").chunk(0).flatten().to_numpy(zero_copy_only=False)
            labels = table.column("label").to_numpy()
            yield features, labels, table.column("name").to_pylist() if has_names else None

    return Stored(settings, metadata[_DIGEST].decode(), blocks, tuple(parse_json(metadata.get(_CLASSES, b"[]"))))
