"""What happens inside a model while it is fine-tuned (arXiv 2406.12227, section 3.3 and appendices E and F).

``questions``   the prompts that everything is measured on: those of the evaluation
``states``      reading residual streams and putting back head outputs at the last prompt token
``alignment``   cosine of hidden states with the instruction vector (figure 5a)
``drift``       the vector before and after, beside random head sets (figure 5b)
``stage``       all measures of one checkpoint, for a model loaded once
``outputs``     head outputs and scores from one forward pass
``within_stage``, ``within_tables``  a stage trained again and measured on the way; the second needs no torch
``robustness``, ``robustness_tables``  vectors from few prompts, of heads and optimised; likewise
``tables``      the tables of all checkpoints, and what the figures show of them; needs no torch
``wordings``    accuracy under other wordings of the instruction
``sufficiency`` what the vector leaves out, and what further heads add
``open_questions``  the tables of these two and of the gains by guidance; needs no torch
``changes``     how the forms of a task change in accuracy (figure 3); needs no torch
"""
