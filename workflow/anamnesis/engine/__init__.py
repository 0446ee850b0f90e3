"""The shared-prefix engine: whatever is done at position p changes nothing before p, so prefixes are computed
once.

``pack``       token trees (a trunk and its branches) laid out in one row, without padding
``attention``  the attention function that lets every token see its own path through its tree, and nothing
else
``rows``       rows born in the middle of a forward pass: copies of a branch, changed at one layer
``modes``      evaluation mode for all that measures
``engine``     runs packs through a Hugging Face decoder and returns only the logits that are asked for
"""
