"""Labels for many images from few: a scikit-learn classifier that learns from images without labels too.

Needs scikit-learn, which `import hebbcore` does not load: import this package by its own name.
"""

from hebbcore.classify.classifier import FewLabelClassifier

__all__ = ["FewLabelClassifier"]
