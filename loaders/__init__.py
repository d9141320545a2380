"""Images on disk to batches of arrays: shards, streams and their sources. Never imports hebbcore."""
