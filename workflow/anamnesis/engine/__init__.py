"""The shared-prefix engine: a change at position p affects nothing before p, so prefixes are computed once.

``prefix_engine``  runs packs through a Hugging Face decoder and returns only the logits that are asked for
``pack``           token trees (a trunk and its branches) laid out in one row, without padding
``attention``      lets every token see its own path through its tree and nothing else; ``tree_groups``: trees
                   that share a call; ``flex_attention``: all trees in one call
``branch_rows``    rows born in the middle of a forward pass; ``block_attention``: how they attend
``widening``       prefixes that run once below a layer and for each tree from it on
``heads``          where a decoder keeps its heads; ``hooks``: reading and changing inner states
``reach``          how long a text may be
``writing``        how heads write into the residual stream
``modes``          evaluation mode for all that measures
``likelihood``     log-probabilities of wanted tokens; ``scoring``: of the continuations of questions
``generation``     greedy answers; ``line_end``: where one ends
``examples``       prompts and answers as token ids; ``batches``: their order in training
"""
