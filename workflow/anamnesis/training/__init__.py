"""Sequential fine-tuning: one loop for all methods.

``examples``     prompts and answers as token ids
``batches``      the order they are trained in
``student``      one forward pass of the model in training, for all terms of a loss
``reference``    the model before the stage, computed once
``objectives``   the answer loss and its terms
``divergence``, ``distillation``   KL between student and teacher: the numbers, and the term
``guidance``     instruction-vector guided training (arXiv 2406.12227, eq. 3 and 4)
``stage``        what a method knows
``methods``      one file per method
``adapters``     LoRA adapters of a stage: created, continued, saved, described
``loop``         one stage of training, resumable at any step
"""
