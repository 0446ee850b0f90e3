"""Statistics of accuracies, from frames to frames, without torch.

``forgetting``       measures of one chain, from its accuracy matrix
``summary``          those of all chains, Table 1, differences pair by pair; ``intervals``: of means
``printed``          tables as printed
``held_out``         what each held-out set lost; ``vector_recovery``: what a vector gives back
``comparisons``      methods beyond the pairs of Table 1; ``paper_table``: published numbers
``chains``           accuracy frames from evaluations; ``pooling``: chains of other runs
``layers``           the layer of a vector, chosen on validation examples
"""
