"""Instruction vectors (arXiv 2406.12227, section 3): activations, causal effects, vectors and interventions.

``icl``            the in-context prompts everything here is measured on
``activations``    mean head outputs (eq. 1)
``effects``        causal effect of each head (eq. 2)
``ranking``        heads ranked over tasks
``instruction``    instruction vectors: sums of head outputs through W_O
``interventions``  adding, removing and randomising vectors, layer by layer (appendix E)
``after_training`` what the vector of the model before training gives back
``optimised``      vectors found by gradient descent
"""
