"""Names that a file or a folder gave, made fit to be shown: they may hold anything."""


def plain(text: object) -> str:
    """Return text on one line, its control and other invisible characters (escape codes, newlines) written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in str(text)
    )
