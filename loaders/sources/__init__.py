"""Where images come from: folders, tar, zip and Parquet files, ImageNet, CIFAR, STL-10, MNIST, stacks, HDF5 files.

base, arrays: what a source is. detect: the table of the kinds of sources. open: from a path to its source. layout:
folders that are a level off. Each kind has a file; they share walk (trees of folders), class_folders (which folders are
classes), tar, zip_members, repeated (names that come again), unpack (gzip) and content (digests), which import none of
detect, open and layout.
"""
