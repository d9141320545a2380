"""Images on disk to batches of arrays: shards, streams and their sources. Never imports hebbcore."""

from loaders.download import download_dataset
from loaders.images.decode import CenterCrop, RandomResizedCrop
from loaders.shards.build import Progress, build_shards, write_shards
from loaders.shards.index import Index, read_index
from loaders.shards.verify import Damage, verify_shards
from loaders.sources.base import ArraySource, ImageSource, Item, array_source
from loaders.sources.cifar import open_cifar
from loaders.sources.detect import open_source
from loaders.sources.folder import ImageFolder, TinyImageNet
from loaders.sources.hdf5 import open_hdf5
from loaders.sources.imagenet import ClassFolderTar, ImageNetTrain, ImageNetValidation
from loaders.sources.mnist import open_mnist
from loaders.streams.array_stream import ArrayStream
from loaders.streams.shard_stream import ShardStream

__all__ = [
    "ArraySource",
    "ArrayStream",
    "CenterCrop",
    "ClassFolderTar",
    "Damage",
    "ImageFolder",
    "ImageNetTrain",
    "ImageNetValidation",
    "ImageSource",
    "Index",
    "Item",
    "Progress",
    "RandomResizedCrop",
    "ShardStream",
    "TinyImageNet",
    "array_source",
    "build_shards",
    "download_dataset",
    "open_cifar",
    "open_hdf5",
    "open_mnist",
    "open_source",
    "read_index",
    "verify_shards",
    "write_shards",
]
