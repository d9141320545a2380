"""Fill a part of a batch: check, decode, crop, flip and scale some records. Runs in a stream's threads."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from loaders.images.decode import decode, resize_box
from loaders.images.transforms import CenterCrop, Floats, Transform, cropped, draws_at_random, uniforms
from loaders.images.wide import FULL
from loaders.shards.format import Ints
from loaders.shards.read import Block, ShardSet

Bad = list[tuple[int, str]]


class Filler:
    """Turns records into rows of a batch, the same ones whoever asks and whenever.

    scaling: (scale, offset), each (C,), for float32 batches of pixels * scale + offset; None for uint8.
    Each record's checksum is compared the first time the record is read, later epochs trust the file.
    """

    def __init__(
        self,
        shards: ShardSet,
        transform: Transform | None,
        scaling: tuple[Floats, Floats] | None,
        seed: int,
        skip_errors: bool,
    ) -> None:
        self._shards, self._transform, self._seed, self._skip = shards, transform, seed, skip_errors
        self._checked = np.zeros(len(shards), bool)
        self._range = int(shards.index.settings.get("range") or FULL)
        stored, self._stored_dtype = shards.index.image_shape, np.dtype(shards.index.dtype)
        self.shape = self._batch_shape(stored)
        # raw images that have the wanted size already are only copied
        self.copies = stored is not None and stored == self.shape and _keeps_size(transform)
        if stored is not None and not self.copies and (stored[2] not in (1, 3) or self._stored_dtype != np.uint8):
            raise ValueError(
                f"ShardStream: only uint8 images of 1 or 3 channels can be resized or cropped, got {stored[2]} "
                f"channels of {self._stored_dtype}"
            )
        self.dtype = self._stored_dtype if scaling is None else np.dtype(np.float32)
        self._scales = scaling is not None
        if scaling is not None:
            # a row's worth of factors: numpy is slow over a last axis of 3
            self._scale = np.tile(scaling[0], self.shape[1]).astype(np.float32)
            self._offset = np.tile(scaling[1], self.shape[1]).astype(np.float32)

    @property
    def is_repeatable(self) -> bool:
        """True if every epoch has the same images: none left out, none changed at random."""
        return not self._skip and not draws_at_random(self._transform)

    def _batch_shape(self, stored: tuple[int, int, int] | None) -> tuple[int, int, int]:
        if self._transform is not None:
            return self._transform.size, self._transform.size, stored[2] if stored else 3
        if stored is not None:
            return stored
        for record in range(len(self._shards)):
            data = self._shards.read(np.array([record]))[0]
            reason = self._shards.damage(record, data)
            if reason is None:
                image = decode(data, None, self._range)
                return image.height, image.width, 3
            self._report(record, reason)
        raise ValueError(f"ShardStream: every record of {self._shards.folder} is damaged; build the set again")

    def _report(self, record: int, reason: str) -> None:
        """Raise for a damaged record, unless such are to be skipped."""
        if not self._skip:
            raise ValueError(
                f"ShardStream: {self._shards.describe(record)} is damaged: {reason}; "
                'build the shard again, or pass on_error="skip"'
            )

    def fill(self, epoch: int, records: Ints, out: npt.NDArray[Any], block: Block | None, row: int) -> Bad:
        """Write records into out (n, H, W, C) and return the (position, reason) of those that could not be.

        block, row: where the records' bytes are, one after the other, if they have been read ahead; they may be in
        out already. None: read them here.
        Raises ValueError naming the shard and the record if one is damaged and errors are not to be skipped.
        """
        pixels = np.empty(out.shape, self._stored_dtype) if self._scales else out
        if block is None:
            block = self._shards.read(records, pixels.reshape(-1).view(np.uint8) if self.copies else None)
        elif self.copies and self._scales:
            pixels[...] = self.images_of(block)[row : row + len(records)]
        draws = self._transform.draws if self._transform else 1
        random = uniforms(self._seed, epoch, records, draws)
        bad: Bad = []
        todo = np.flatnonzero(~self._checked[records]) if self.copies else range(len(records))
        for i in todo:
            record = int(records[i])
            reason = self._fill_one(record, block[row + int(i)], pixels[i], random[i])
            if reason is None:
                self._checked[record] = True
            else:
                self._report(record, reason)
                bad.append((int(i), reason))
        if self._transform is not None and self._transform.flip:
            mirrored = random[:, 0] < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        if self._scales:
            lines = (len(out), self.shape[0], -1)
            np.multiply(pixels.reshape(lines), self._scale, out=out.reshape(lines), dtype=np.float32)
            out.reshape(lines)[...] += self._offset
        return bad

    @property
    def stays_in_place(self) -> bool:
        """Whether a batch is nothing but its records' bytes, so that those read ahead need not be copied again."""
        return self.copies and not self._scales

    def images_of(self, block: Block) -> npt.NDArray[Any]:
        """The (n, H, W, C) images of a block of raw records."""
        return block.data.view(self._stored_dtype).reshape(-1, *self.shape)

    def _fill_one(self, record: int, data: memoryview, out: npt.NDArray[Any], random: Floats) -> str | None:
        """Write one record into out (H, W, C), or say why not."""
        if not self._checked[record] and (reason := self._shards.damage(record, data)):
            return reason
        if not self.copies:
            try:
                image = self._image(data, random)
            except ValueError as error:
                return str(error)
            if (image.height, image.width) != out.shape[:2]:
                raise ValueError(
                    f"ShardStream: {self._shards.describe(record)} is {image.height} x {image.width} pixels, the first "
                    f"image {out.shape[0]} x {out.shape[1]}; give image_size to bring them to one size"
                )
            out[...] = np.asarray(image).reshape(out.shape)
        return None

    def _image(self, data: memoryview, random: Floats) -> Image.Image:
        frame = cropped(self._transform, random) if self._transform else None
        stored = self._shards.index.image_shape
        if stored is None:
            return decode(data, frame, self._range)
        height, width, channels = stored
        array = np.frombuffer(data, np.uint8).reshape((height, width) if channels == 1 else stored)
        assert frame is not None
        box, target = frame(width, height) or ((0, 0, width, height), (width, height))
        return resize_box(Image.fromarray(array), box, target)


def _keeps_size(transform: Transform | None) -> bool:
    return transform is None or (isinstance(transform, CenterCrop) and transform.resize in (None, transform.size))
