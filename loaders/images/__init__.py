"""Encoded images to arrays: what kind a file is, decoding, 16 bits, and the transforms of a stream."""
