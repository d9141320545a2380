"""Networks in other libraries: hebbcore.bridges.torch and hebbcore.bridges.jax, each of which needs its own.

Each library has a class that does what formulas ask for; that of ONNX, for files and for scikit-learn's pipelines,
writes it down as nodes.
"""
