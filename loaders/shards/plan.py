"""What a build is going to write, and whether a folder holds that, something else, or a part of it."""

import json
import os
from errno import EACCES
from pathlib import Path
from typing import Any

from loaders.files import PARTIAL, write_text
from loaders.shards.format import INDEX, PLAN, REPORT, identity_of, shard_name, version_of
from loaders.shards.index import Index, read_index
from loaders.sources.base import Source
from loaders.text import printable

_DIGESTS = ("names", "content", "labels")  # of what a source holds

Plan = dict[str, Any]  # in JSON types: what decides the bytes of a set


def other_set(found: str, advice: str = "") -> ValueError:
    """The error for a folder that holds another set than is to be built there; found: what it holds."""
    error = ValueError(f"build_shards: {found}; choose another folder or delete it{advice}")
    vars(error)["found"] = found
    return error


def found_instead(error: Exception) -> str | None:
    """What a folder holds instead, for callers with advice of their own; None: it is no error of `other_set`."""
    return vars(error).get("found")


def plan_of(source: Source, settings: dict[str, Any]) -> Plan:
    """What a build of a source is going to write."""
    return {
        "version": version_of(settings.get("dtype", "uint8")),
        "source": source.describe(),
        "class_names": list(source.class_names),
        "settings": settings,
    }


def finished(folder: Path, plan: Plan) -> Index | None:
    """The index, if the folder holds all of this set already."""
    if not (folder / INDEX).exists():
        return None
    index = read_index(folder)
    wanted = plan if index.digest else _earlier(plan)
    if index.identity != identity_of(wanted):
        found = {"source": index.source, "class_names": list(index.class_names), "settings": index.settings}
        raise _other_set(folder, found, wanted)
    whole = all(
        (folder / shard.file).is_file() and (folder / shard.file).stat().st_size == shard.bytes
        for shard in index.shards
    )
    if not whole and not index.digest:
        raise ValueError(
            f"build_shards: {folder} was written by an earlier version and lacks a shard or a part of one; "
            "restore it, or delete the folder and build it again"
        )
    return index if whole else None


def start(folder: Path, plan: Plan) -> None:
    """Note down the plan, or make sure that the build found in the folder has the same one."""
    if not os.access(folder, os.W_OK):
        raise PermissionError(EACCES, f"build_shards: the folder {folder} is not writable; choose another one")
    for leftover in folder.glob(f".*{PARTIAL}"):
        leftover.unlink()
    note = folder / PLAN
    if not note.exists():
        if (folder / REPORT).exists() and not any((folder / name).exists() for name in (INDEX, shard_name(0))):
            raise FileExistsError(
                f"build_shards: {folder / REPORT} is of no set of shards, and would be replaced; choose another folder "
                "or move the file"
            )
        write_text(note, json.dumps(plan, indent=1) + "\n")
        return
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        parts = [found[key] for key in ("source", "settings")]
        if not all(isinstance(part, dict) for part in parts):
            raise TypeError("it is not the plan of a build")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else printable(error)
        raise ValueError(f"build_shards: {note} is damaged ({reason}); delete the folder") from error
    if found == _earlier(plan):
        raise ValueError(
            f"build_shards: {folder} holds a build begun by an earlier version, which did not note what its source "
            "holds; delete the folder and build it again"
        )
    if found != plan:
        raise _other_set(folder, found, plan)


def _earlier(plan: Plan) -> Plan:
    """The plan as versions without digests of the content wrote it."""
    source = {key: value for key, value in plan["source"].items() if key != "content"}
    settings = {key: value for key, value in plan["settings"].items() if (key, value) != ("range", None)}
    return {**plan, "source": source, "settings": settings}


def _other_set(folder: Path, found: Plan, wanted: Plan) -> ValueError:
    def flat(plan: Plan) -> dict[str, Any]:
        return {"class names": plan.get("class_names"), **plan["source"], **plan["settings"]}

    def value(plan: dict[str, Any], key: str) -> str:
        return printable(plan.get(key, "not set"))[:60]

    old, new = flat(found), flat(wanted)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    keys = [key for key in keys if key not in _DIGESTS] or keys  # which say nothing to a reader
    differences = ", ".join(f"{printable(key)} {value(old, key)} there and {value(new, key)} here" for key in keys)
    how = "from a source whose files have changed since" if keys == ["content"] else "differently"
    advice = ""
    if keys == ["range"] and old.get("stats_from") and old["range"]:
        advice = f". That of stats_from is taken here; value_range (--range) {value(old, 'range')} keeps the one there"
    return other_set(f"{folder} holds a set built {how} ({differences})", advice)
