"""Instruction vectors of a model in memory, without the workflow: what notebooks and scripts import.

``tasks``     heads, causal effects and vectors of one task or several (:func:`study_tasks`, :class:`Study`)
``measuring`` what of them is measured; ``inputs``: what the functions are given, checked
``maps``      causal effects as an array (prompt, layer, head), their mean and interval (:class:`Effects`)
``steering``  a vector added in any call of transformers (:func:`steered`)
``transfer``  two models compared, head by head (:func:`compare`)
``saved``     a study on disk (:func:`save_study`, :func:`load_study`); ``digests``: of models and tokenizers

For prompts of one's own: :func:`questions`, and functions of the engine and of ``vectors`` that take them.
Sets of heads of other tools, and for them: :func:`read_heads`, :func:`write_heads`.
"""

from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.study.maps import Effects
from anamnesis.study.saved import load_study, save_study
from anamnesis.study.steering import steered
from anamnesis.study.tasks import Study, questions, study_tasks
from anamnesis.study.transfer import compare
from anamnesis.vectors.activations import mean_head_activations
from anamnesis.vectors.effects import causal_effects
from anamnesis.vectors.head_sets import read_heads, write_heads
from anamnesis.vectors.instruction import instruction_vector
from anamnesis.vectors.interventions import intervene

__all__ = [
    "study_tasks", "Study", "Effects", "steered", "compare", "save_study", "load_study",
    "PrefixEngine", "questions", "mean_head_activations", "causal_effects", "instruction_vector", "intervene",
    "read_heads", "write_heads",
]  # fmt: skip
