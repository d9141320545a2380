"""One file a layer, by its name in LAYERS; what it holds is told in oracles."""
