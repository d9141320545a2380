"""How things are cut among processes."""


def cut(total: int, rank: int, size: int) -> tuple[int, int]:
    """Return the (start, end) of a rank's even share of so many things; rank 0's is not empty, if there are any."""
    return -(-rank * total // size), -(-(rank + 1) * total // size)
