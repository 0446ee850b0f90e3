"""Words that the tables share. Nothing here needs torch, so that figures can read the tables."""

WHOLE = -1  # layer, head: all of them
EVERY = "all"  # matrix, set: all of them
TRAINED, BASE, SLICED = "trained", "base", "sliced"  # weights the loss is looked at in
LEARNT, HELD_OUT, LATER, NEW = "learnt", "held_out", "later", "new"  # what a set is to a stage
GRADIENTS = ("set", "other", "layer", "matrix", "head", "cosine", "conflicts", "pairs")
DRIFT = ("set", "layer", "cka", "rotation", "subspace", "n")
HEADS = ("set", "layer", "head", "attention", "output", "norm", "n")
ROUTING = ("router", "divergence", "experts")
LANDSCAPE = ("set", "weights", "measure", "step", "value", "n")
