"""Instruction vectors of a model in memory: the model is left as it was, whatever happens."""

from __future__ import annotations

import pytest

from anamnesis.vectors import study
from anamnesis.vectors.study import study_pairs
from tiny_models import build, tokenizer

PAIRS = [(f"thing {i}", ("cold", "hot")[i % 2]) for i in range(8)]
SMALL = {"shots": 2, "heads": 2, "activation_prompts": 3, "effect_prompts": 1}


def modes(model) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("fails", [False, True])
def test_modules_are_in_the_mode_they_were_in_even_after_an_error(monkeypatch, fails):
    model = build("llama").train()
    model.model.layers[1].eval()  # as a caller may have who trains the rest
    before, seen = modes(model), []
    assert len(set(before.values())) == 2
    effects = study.causal_effects

    def watched(engine, *args, **kwargs):
        seen.append(set(modes(model).values()))
        if fails:
            raise RuntimeError("out of memory")
        return effects(engine, *args, **kwargs)

    monkeypatch.setattr(study, "causal_effects", watched)
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            study_pairs(model, tokenizer(), PAIRS, **SMALL)
    else:
        assert study_pairs(model, tokenizer(), PAIRS, **SMALL).vector.shape == (48,)
    assert seen == [{False}]
    assert modes(model) == before
