"""Labels for all images from a few: the stages of `hebbcore classify`, what they write, and the model they make."""

from hebbcore.labelling.model import Model, load_model

__all__ = ["Model", "load_model"]
