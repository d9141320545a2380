"""Names that a file or a folder gave, made fit to be shown: they may hold anything."""

import re
from unicodedata import category, normalize

from hebbcore.checks import printable

_SPACES = re.compile("[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_OTHER = "[^\0-\u036f\u200c\u200d]"  # beyond Latin and its accents
_JOINERS = re.compile(f"({_OTHER})([\u200c\u200d])[\u200c\u200d]*(?={_OTHER})|[\u200c\u200d]")


def as_text(name: object) -> str:
    r"""Return a name as text; bytes that are not UTF-8 show as \xff and so on."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def is_unicode(text: str) -> bool:
    """Return False for a text that UTF-8 cannot hold, as names of files are whose bytes are none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def plain(text: object) -> str:
    """Return text on one line, its control and other invisible characters (escape codes, newlines) written out."""
    return printable(str(text)).replace("\n", "\\n")


def in_markdown(text: object) -> str:
    """Return text as Markdown shows it, whatever it holds: no HTML, no link, no picture, no other cell of a table.

    Underlines between letters or digits stay as they are: others are the marks of emphasis.
    """
    shown = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[`*|~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[])|\\(?! )", r"\\\g<0>", shown)


def tidy(name: str) -> str:
    """Return the name of a class without differences that nobody sees: two names that look alike are the same then.

    Accents are composed (NFC), invisible characters go, and spaces of all kinds and lengths, line ends too, are one
    space, with none around the name. Joiners stay between letters that they may change: those of scripts beyond Latin,
    and emoji.
    loaders.text.tidy is the same.
    """
    if name.isascii():
        return _SPACES.sub(" ", name).strip()
    seen = "".join(letter for letter in name if category(letter) != "Cf" or letter in "\u200c\u200d")
    seen = _JOINERS.sub(r"\1\2", _SPACES.sub(" ", normalize("NFC", seen)))
    return _SPACES.sub(" ", normalize("NFC", seen)).strip()
