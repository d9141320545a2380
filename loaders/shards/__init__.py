"""Sets of shards: their format, and building, reading and verifying them.

format, index: what a shard and index.json hold. build, job, plan, changes, ranges, encode, write: from a source to
shards. read, names: records, and where they came from. figures: what all shards add up to. verify: whether all is well.
"""
