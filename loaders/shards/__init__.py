"""Sets of shards: their format, and building, reading and verifying them."""
