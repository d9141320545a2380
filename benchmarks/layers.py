"""The layers of FastHebb's networks that the step benchmark runs: 6-layer at batch 64, 10-layer at batch 32."""

from typing import NamedTuple


class Shape(NamedTuple):
    """One layer: images (batch, size, size, channels) and units of kernel × kernel; kernel 0 is a dense layer."""

    name: str
    batch: int
    size: int
    channels: int
    kernel: int
    units: int

    @property
    def images(self) -> tuple[int, ...]:
        """Shape of a batch."""
        return (self.batch, self.channels) if self.kernel == 0 else (self.batch, self.size, self.size, self.channels)

    @property
    def weights(self) -> tuple[int, ...]:
        """Shape of the weights."""
        if self.kernel == 0:
            return (self.units, self.channels)
        return (self.units, self.kernel, self.kernel, self.channels)

    @property
    def patches(self) -> int:
        """N: patches of a batch."""
        return self.batch if self.kernel == 0 else self.batch * (self.size - self.kernel + 1) ** 2

    @property
    def patch_size(self) -> int:
        """D: numbers in a patch."""
        return self.channels if self.kernel == 0 else self.kernel**2 * self.channels


SIX_LAYER = [
    Shape("6-layer conv1", 64, 32, 3, 5, 96),
    Shape("6-layer conv2", 64, 14, 96, 3, 128),
    Shape("6-layer conv3", 64, 12, 128, 3, 192),
    Shape("6-layer conv4", 64, 5, 192, 3, 256),
    Shape("6-layer fc5", 64, 1, 2304, 0, 4096),
]
# many units of small patches; and what is small, where a step's own work outweighs its products
OTHERS = [
    Shape("patches 1600", 16, 68, 3, 6, 1600),
    Shape("patches 400", 16, 68, 3, 6, 400),
    Shape("small conv", 64, 8, 3, 3, 16),
    Shape("small conv, few images", 4, 8, 3, 3, 16),
    Shape("small dense", 64, 1, 784, 0, 100),
    Shape("small dense, wide", 256, 1, 784, 0, 400),
    Shape("small dense, few units", 1024, 1, 100, 0, 20),
    Shape("small dense, few rows", 8, 1, 64, 0, 32),
]
TEN_LAYER = [
    Shape("10-layer conv1", 32, 210, 3, 7, 96),
    Shape("10-layer conv2", 32, 68, 96, 3, 128),
    Shape("10-layer conv3", 32, 66, 128, 3, 192),
    Shape("10-layer conv4", 32, 32, 192, 3, 192),
    Shape("10-layer conv5", 32, 30, 192, 3, 256),
    Shape("10-layer conv6", 32, 14, 256, 3, 256),
    Shape("10-layer conv7", 32, 12, 256, 3, 384),
    Shape("10-layer conv8", 32, 5, 384, 3, 512),
]
