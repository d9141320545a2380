"""Names that a file or a folder gave, made fit to be shown: they may hold anything."""

import re

from hebbcore.checks import printable


def plain(text: object) -> str:
    """Return text on one line, its control and other invisible characters (escape codes, newlines) written out."""
    return printable(str(text)).replace("\n", "\\n")


def in_markdown(text: object) -> str:
    """Return text as Markdown shows it, whatever it holds: no HTML, no link, no picture, no other cell of a table."""
    shown = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[`*|~]|\](?=[(\[])|\\(?! )", r"\\\g<0>", shown)
