"""One file a rule, by its name in RULES; what it holds is told in oracles."""
