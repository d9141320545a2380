"""Text that came with files: small text files, and names made fit for a terminal."""

import os
from pathlib import Path

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


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 text file. Raises ValueError if it is something else."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)} must be a text file in UTF-8: {error}; is it another file?") from None


def read_words(path: str | os.PathLike[str]) -> list[str]:
    """The words of a UTF-8 text file. Raises ValueError if it is something else."""
    return [word for line in read_lines(path) for word in line.split()]
