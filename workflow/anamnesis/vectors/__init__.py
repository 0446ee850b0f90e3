"""Instruction vectors (arXiv 2406.12227, section 3): activations, causal effects, vectors and interventions.

``icl``            the in-context prompts everything here is measured on
``activations``    mean head outputs (eq. 1)
``effects``        causal effect of each head (eq. 2)
``ranking``        heads ranked over tasks
``instruction``    instruction vectors: sums of head outputs through W_O
``interventions``  adding, removing and randomising vectors, layer by layer (appendix E)
``layers``         the layer of a vector, chosen on validation examples
``study``          all of it for a model already in memory, without the workflow
"""
