"""The engine of a trained model, in which every prompt has the latent tasks that it retrieves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from anamnesis.training.methods.jfa.latent_files import FOLDER, load_pool
from anamnesis.training.methods.jfa.latent_tasks import LatentEngine

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def depends_on_prompt(adapters: Sequence[Path]) -> bool:
    """Whether the weights of the model depend on the prompt, so that no single model is equal to it."""
    return bool(adapters) and (Path(adapters[-1]) / FOLDER).exists()


def engine_of(
    model: PreTrainedModel, adapters: Sequence[Path], snapshot: Path, tokenizer: PreTrainedTokenizerBase
) -> PrefixEngine:
    """The engine of a model with ``adapters`` merged, with the latent tasks of the last if it has some."""
    engine = PrefixEngine(model)
    if not depends_on_prompt(adapters):
        return engine
    pool, settings = load_pool(adapters[-1])
    encoder = PromptEncoder(
        settings["encoder"],
        settings["encoder_layer"],
        snapshot,
        tokenizer,
        next(model.parameters()).dtype,
        engine.device,
    )
    return LatentEngine(model, pool.to(engine.device), encoder, geometry=engine.geometry)
