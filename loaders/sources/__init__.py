"""Where images come from: folders, tar files, CIFAR, MNIST, HDF5 files."""
