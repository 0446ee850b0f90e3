"""Sequential fine-tuning: one loop for all methods.

``slices``       what is known of the methods without torch
``methods``      one folder for each method
``method``       what a method is; ``build`` puts one together for a stage
``stage``        what a method knows; ``prepare`` makes it from ``stage_files``
``student``      one forward pass of the model in training, for all terms of a loss
``reference``    the model before the stage, computed once
``objectives``   the answer loss and its terms
``divergence``, ``distillation``   KL between student and teacher: the numbers, and the term
``guidance``     instruction-vector guided training (arXiv 2406.12227, eq. 3 and 4)
``loop``         one stage of training, resumable at any step; ``checkpoints``, ``trainer_options``
``world``        the processes that train a stage together
``tuning``       the instruction-tuned start
"""
