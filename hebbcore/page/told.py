"""What went wrong, in words for the page: those who read it know the page, and no functions of Python."""

import re
import sqlite3

_FUNCTION = re.compile(r"(?:[A-Z]\w+\.)?[a-z_]+: ")  # with which messages of hebbcore and loaders begin
_WRITTEN = (ValueError, RuntimeError, ImportError, ModuleNotFoundError, FloatingPointError)  # with words for users


def in_words(error: BaseException) -> str:
    """Return what to tell of an error, on the page."""
    if isinstance(error, MemoryError):
        return "there is not enough memory: close other programs, or work on fewer photos."
    if getattr(error, "sqlite_errorname", "") == "SQLITE_READONLY_DBMOVED":
        return (
            "the file of the labels was moved, removed or replaced while the command ran: export the labels here, and "
            "start it again."
        )
    if isinstance(error, sqlite3.Error):
        return f"the labels cannot be written ({error}); what was saved before is safe."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    text = str(error)
    if (type(error) in _WRITTEN or isinstance(error, OSError)) and " " in text:
        return _FUNCTION.sub("", text, count=1) if _FUNCTION.match(text) else text
    kind = type(error).__name__
    return f"something went wrong that nobody foresaw ({kind}); the terminal of hebbcore label tells more."
