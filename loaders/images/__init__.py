"""Encoded images to arrays: the format of a file, decoding, 16 bits, and the transforms of a stream."""
