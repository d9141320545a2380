"""Text that came with files: small text files, and names made fit for a terminal."""

import os
import re
from pathlib import Path
from unicodedata import category, normalize

_SPACES = re.compile("[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_OTHER = "[^\0-\u036f\u200c\u200d]"  # beyond Latin and its accents
_JOINERS = re.compile(f"({_OTHER})([\u200c\u200d])[\u200c\u200d]*(?={_OTHER})|[\u200c\u200d]")

LONGEST = 1000


def printable(name: object) -> str:
    """A name as one line of text that can be printed: what is not, such as escape codes, shows as \\x1b and so on."""
    text = str(name)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def tidy(name: str) -> str:
    """Return the name of a class without differences that nobody sees: two names that look alike are the same then.

    Accents are composed (NFC), invisible characters go, and spaces of all kinds and lengths, line ends too, are one
    space, with none around the name. Joiners stay between letters that they may change: those of scripts beyond Latin,
    and emoji.
    hebbcore.texts.tidy is the same.
    """
    if name.isascii():
        return _SPACES.sub(" ", name).strip()
    seen = "".join(letter for letter in name if category(letter) != "Cf" or letter in "\u200c\u200d")
    seen = _JOINERS.sub(r"\1\2", _SPACES.sub(" ", normalize("NFC", seen)))
    return _SPACES.sub(" ", normalize("NFC", seen)).strip()


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 text file, with or without a byte order mark. Raises ValueError if it is something else."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} must be a text file in UTF-8: {error}; is it another file?") from None


def read_words(path: str | os.PathLike[str]) -> list[str]:
    """The words of a UTF-8 text file. Raises ValueError if it is something else."""
    return [word for line in read_lines(path) for word in line.split()]
