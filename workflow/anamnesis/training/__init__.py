"""Sequential fine-tuning: one loop, one objective per method.

``examples``   prompts and answers as token ids
``objectives`` the answer loss, and what an objective is
``guidance``   instruction-vector guided training (arXiv 2406.12227, eq. 3 and 4)
``divergence`` the KL term between student and teacher logits
``adapters``   LoRA adapters of a stage: created, saved, described
``loop``       one stage of training, resumable at any step
"""
