"""Arrays, devices, kernels, matrix products and the batched update: what every rule and layer stands on."""
