"""Where images come from: class folders, tar files, ImageNet, CIFAR, MNIST, HDF5 files.

base, arrays: what a source is. detect, open: from a path to its source. One file for each kind of source, and what they
share: walk (trees of folders), layout (which folders are classes), tar, unpack (gzip), content (digests).
"""
