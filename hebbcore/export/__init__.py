"""Networks, layers and classifiers as files of other programs: ONNX (the extra "onnx").

Needs the package onnx only where a file is written: import this package by its own name.
"""

from hebbcore.export.onnx_file import onnx

__all__ = ["onnx"]
