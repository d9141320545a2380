"""Images on disk to batches of arrays: shards, streams and their sources. Never imports hebbcore."""

from loaders.download import download_dataset
from loaders.images.transforms import CenterCrop, RandomResizedCrop
from loaders.labels import match_labels, read_labels
from loaders.shards.build import build_shards, write_shards
from loaders.shards.index import Index, read_index
from loaders.shards.job import Progress
from loaders.shards.verify import Damage, verify_shards
from loaders.sources.arrays import ArraySource, array_source
from loaders.sources.base import ImageSource, Item
from loaders.sources.cifar import open_cifar
from loaders.sources.class_tars import ImageNetClassTars
from loaders.sources.folder import ImageFolder
from loaders.sources.hdf5 import open_hdf5
from loaders.sources.hugging_face import DatasetImages
from loaders.sources.image_files import ImageFiles
from loaders.sources.imagenet import ImageNetTrain, ImageNetValidation
from loaders.sources.kaggle import KaggleImageNet
from loaders.sources.mnist import open_mnist
from loaders.sources.open import open_source
from loaders.sources.parquet import ParquetImages
from loaders.sources.stacks import open_stack
from loaders.sources.stl10 import open_stl10
from loaders.sources.tar_images import ClassFolderTar
from loaders.sources.tiny_imagenet import TinyImageNet
from loaders.sources.webdataset import WebDataset
from loaders.sources.zip_images import ZipImages
from loaders.streams.array_stream import ArrayStream
from loaders.streams.shard_stream import ShardStream

__all__ = [
    "ArraySource",
    "ArrayStream",
    "CenterCrop",
    "ClassFolderTar",
    "Damage",
    "DatasetImages",
    "ImageFiles",
    "ImageFolder",
    "ImageNetClassTars",
    "ImageNetTrain",
    "ImageNetValidation",
    "ImageSource",
    "Index",
    "Item",
    "KaggleImageNet",
    "ParquetImages",
    "Progress",
    "RandomResizedCrop",
    "ShardStream",
    "TinyImageNet",
    "WebDataset",
    "ZipImages",
    "array_source",
    "build_shards",
    "download_dataset",
    "match_labels",
    "open_cifar",
    "open_hdf5",
    "open_mnist",
    "open_source",
    "open_stack",
    "open_stl10",
    "read_index",
    "read_labels",
    "verify_shards",
    "write_shards",
]
