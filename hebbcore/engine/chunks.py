"""How a batch is cut: shared among the threads of the CPU, in chunks that fit the workspace; and the loop over them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from hebbcore import checks
from hebbcore.engine import backend, devices, kernels, parallel, tuning
from hebbcore.engine.backend import Array
from hebbcore.engine.gemm import Gemm, dtype_of
from hebbcore.engine.memory import Memory
from hebbcore.engine.patches import Chunk, Geometry, PatchReader


@dataclass(frozen=True)
class Plan:
    """How a layer of so many units works on its batches.

    function: who asks, for messages. workspace: bytes for the patches, padded images, scores and sums of all threads.
    more_bytes: what a patch needs besides.
    block: so many units are taken together in a blocked decay on the CPU; 0: none is.
    beside: None, or what is done with the scores at once needs them of whole images, and so many more bytes a patch.
    """

    function: str
    geometry: Geometry
    units: int
    precision: str
    workspace: int
    device: str
    more_bytes: int = 0
    block: int = 0
    beside: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of patches and scores."""
        return dtype_of(self.precision)

    @property
    def threads(self) -> int:
        """How many threads there are to share the work: on CUDA one."""
        return parallel.threads() if self.device == "cpu" else 1

    def shares(self, images: int, memories: list[Memory], sums_bytes: int = 0) -> list["Share"]:
        """Return each thread's share of a batch of so many images.

        memories: one for each thread; missing ones are added to the list. sums_bytes: see chunks.
        """
        chunks = self.chunks(images, sums_bytes)
        memories += [Memory() for _ in range(len(chunks) - len(memories))]
        threads = self.threads if len(chunks) == 1 else 1
        return [Share(self, *of_a_thread, threads) for of_a_thread in zip(chunks, memories, strict=False)]

    def chunks(self, images: int, sums_bytes: int = 0) -> list[list[Chunk]]:
        """Return the chunks of each thread, in order; CUDA has one thread.

        sums_bytes: what each thread beyond the first needs for its sums. Raises ValueError, saying the least that
        works, if one row of an image's output does not fit.
        """
        g, line_bytes = self.geometry, self._line_bytes()
        width = g.output[1]
        available = self._available()
        if available < line_bytes:
            raise ValueError(
                f"{self.function}: workspace of {checks.byte_text(self.workspace)} is too small for one row of an "
                f"image's output ({width} patches of {g.patch_size} numbers, {self.units} units); "
                f"use at least {checks.byte_text(self.workspace - available + line_bytes)}."
            )
        if self.device == "cuda":
            return [list(g.chunks(images, available // line_bytes * width))]
        rows, tuned = images * g.positions, tuning.MEASURED
        sums_bytes += self._block_bytes(self.block)
        least_lines = 1 if self.beside is None else g.output[0]
        least_bytes = least_lines * line_bytes + sums_bytes
        worth = min(rows // tuned.thread_patches, rows * self.units * g.patch_size // tuned.thread_products)
        threads = max(1, min(self.threads, worth, available // least_bytes))
        fitting = (available // threads - (sums_bytes if threads > 1 else 0)) // line_bytes * width
        most_bytes = tuned.chunk_bytes if self.beside is None else tuned.cache_bytes
        in_cache = min(tuned.most_patches, max(tuned.cache_patches, most_bytes // self._patch_bytes()))
        most_rows = max(least_lines * width, min(fitting, in_cache))
        if images >= threads:  # shared first and then cut, so that threads have as much to do
            return [list(g.chunks(end - start, most_rows, start)) for start, end in parallel.cuts(images, threads)]
        of_a_thread = -(-images * g.output[0] // threads) * width
        chunks = list(g.chunks(images, max(least_lines * width, min(most_rows, of_a_thread))))
        return [chunks[start:end] for start, end in parallel.cuts(len(chunks), threads)]

    @property
    def fits_images(self) -> bool:
        """True if the workspace is enough for an image as a whole."""
        return bool(self._available() >= self.geometry.output[0] * self._line_bytes())

    def blocked(self) -> "Plan":
        """Return this plan with room for a blocked decay on the CPU: patches and gates once more, and a block."""
        most = max(0, self._available() - 2 * self._line_bytes()) // 2 // self._block_bytes(1)
        return replace(self, block=min(self.units, tuning.MEASURED.block_units["cpu"], most))

    def _available(self) -> int:
        """Return the bytes for patches and what belongs to them."""
        sums = kernels.for_device(self.device).cell_bytes(self.units, self.dtype.itemsize)
        return int(self.workspace - sums - self._block_bytes(self.block))

    def _block_bytes(self, block: int) -> int:
        """Return the bytes of a block of so many units: its weights, and its decays by those of all blocks."""
        return block * (self.geometry.patch_size + self.units) * self.dtype.itemsize

    def _patch_bytes(self) -> int:
        """Return the bytes that a patch and its scores take."""
        g, item = self.geometry, self.dtype.itemsize
        size = (g.patch_size + self.units + 1) * item + self.more_bytes + (self.beside or 0)
        if self.block:
            size += (self.units + g.patch_size) * item
        if self.device == "cuda":  # the blocked order's copies of its block of G
            size += 2 * min(self.units, tuning.MEASURED.block_units["cuda"]) * item
        if self.precision == "bf16":
            size += 2 * (2 * g.patch_size + self.units)
        return size

    def _line_bytes(self) -> int:
        """Return the bytes that one row of an image's output takes."""
        g = self.geometry
        rows = min(max(g.stride[0], g.kernel[0]), g.size[0] + 2 * g.padding[0])
        padded = rows * (g.size[1] + 2 * g.padding[1]) * g.channels * self.dtype.itemsize
        return g.output[1] * self._patch_bytes() + padded


class Piece(NamedTuple):
    """A chunk's patches (rows, D), and which rows of the batch's output (n·oh·ow, …) they are."""

    chunk: Chunk
    patches: Array
    rows: slice


class Share:
    """One thread's chunks of a batch, its memory, and the matrix products on it."""

    def __init__(self, plan: Plan, chunks: list[Chunk], memory: Memory, threads: int) -> None:
        self.plan, self.chunks, self.memory = plan, chunks, memory
        self.gemm = Gemm(plan.precision, memory, threads)
        self._reader = PatchReader(plan.geometry, plan.dtype, memory)

    @property
    def most_rows(self) -> int:
        """Patches of the largest chunk."""
        return max(map(self.plan.geometry.rows, self.chunks))

    def lay_out(self, images: Array, parts: dict[str, int], copy: bool = False) -> None:
        """Set the memory aside that pieces of these images need, and further parts of so many bytes.

        copy: also where patches could be a view of the images, for pieces that are `owned`.
        """
        self.memory.lay_out(self.plan.device, self._reader.sizes(images, self.chunks, self.plan.device, copy) | parts)

    def read(self, images: Array, out: Array | None) -> Array:
        """Return the patches of the only chunk of images on the device, in out; None: a view of the images."""
        return self._reader.read(images, self.chunks[0], out)

    def only_room(self, images: Array) -> Array | None:
        """Return where `read` puts the patches of the only chunk, if they are no view of the images."""
        is_view = not self._reader.sizes(images, self.chunks, self.plan.device)
        return None if is_view else self.room(self.chunks[0])

    def pieces(self, images: Array, own: bool = False) -> Iterator[Piece]:
        """Yield the chunks of the images, which may be on another device. The next one overwrites the patches.

        own: the patches may be overwritten, and are never a view of the images (lay_out with copy=True).
        """
        g, device = self.plan.geometry, self.plan.device
        is_here = backend.device_of(images) == device
        for chunk in self.chunks:
            source, where = images, chunk
            if not is_here:
                source = devices.to_device(images[chunk.first : chunk.last], device)
                where = chunk._replace(first=0, last=len(source))
            patches = self._reader.read(source, where, self.room(chunk) if own else None)
            start = chunk.first * g.positions + chunk.top * g.output[1]
            yield Piece(chunk, patches, slice(start, start + len(patches)))

    def owned(self, images: Array, piece: Piece) -> Array:
        """Return the patches of a piece in memory that may be overwritten; images: on the device."""
        if self.plan.geometry.is_reshape:  # perhaps a view of the user's images
            return self._reader.read(images, piece.chunk, self.room(piece.chunk))
        return piece.patches

    def room(self, chunk: Chunk) -> Array:
        """Return the memory of a chunk's patches."""
        g = self.plan.geometry
        return self.memory.part("patches", (g.rows(chunk), g.patch_size), self.plan.dtype)
