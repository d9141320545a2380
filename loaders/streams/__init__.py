"""Batches of images, epoch after epoch: from a set of shards, or from arrays in memory."""
