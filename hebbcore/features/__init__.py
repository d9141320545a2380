"""Features of a network into a file."""
