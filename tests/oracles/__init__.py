"""The slow float64 oracles: plain loops over samples and units, NumPy only.

They share no code with hebbcore on purpose. Each rule and layer is written as its per-unit, per-sample formula, so that
a merged matrix identity, a chunked sum or a kernel can be checked against something a reader can check by eye. Tests
find the file by the name in RULES or LAYERS, and read it through `reference`.

rules/NAME.py: `output(X, W, …)`, `delta(X, W, …)` and, for a rule with rates of its own, `rates(W, learning_rate, …)`.
All take all parameters of the rule, with its defaults, also those they have no use for; `delta` of a rule that takes a
bias has a `bias` (K,) besides. A rule with a state has `next_state(X, W, state, …)`, the state after a batch, and its
`output` and `delta` take the `state` from before it; None: as it begins. `VARIANTS`: the parameters that the tests go
through, as dicts; without it the defaults.

layers/NAME.py: `output(x, arrays, …)` by the layer's arrays as a checkpoint has them, and `EXAMPLES`: (shape of an
image or vector, parameters) that the tests go through. `BEFORE`, where a layer needs others before it: (name,
parameters) of these.
"""
