"""Images on disk to batches of arrays: shards, streams and their sources. Never imports hebbcore."""

from loaders.arrays import ArrayStream
from loaders.build import Progress, build_shards, write_shards
from loaders.cifar import open_cifar
from loaders.detect import open_source
from loaders.download import download_dataset
from loaders.folder import ImageFolder, TinyImageNet
from loaders.hdf5_arrays import open_hdf5
from loaders.imagenet import ClassFolderTar, ImageNetTrain, ImageNetValidation
from loaders.images import CenterCrop, RandomResizedCrop
from loaders.index import Index, read_index
from loaders.mnist import open_mnist
from loaders.sources import ArraySource, ImageSource, Item, array_source
from loaders.stream import ShardStream
from loaders.verify import Damage, verify_shards

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
