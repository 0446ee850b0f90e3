"""Every model type of the installed transformers: exact in the engine, or refused in one line."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from model_types import BEGIN, END, EXACT, REASONS, UNBUILT, model_types, outcome, table

ROOT = Path(__file__).parents[2]


@cache
def documented() -> dict[str, str]:
    """Type -> what docs/explanation/models.md says of it."""
    page = (ROOT / "docs" / "explanation" / "models.md").read_text(encoding="utf-8")
    rows = page.split(BEGIN)[1].split(END)[0].splitlines()[2:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    return {name.strip("` "): found for names, found in cells for name in names.split(",")}


@pytest.mark.parametrize("model_type", model_types())
def test_a_model_is_exact_or_refused_as_the_documentation_says(model_type):
    found = outcome(model_type)
    assert found == EXACT or found in REASONS.values()
    assert documented()[model_type] == (found if found == EXACT else f"refused: {found}")


def test_the_documentation_has_all_types_and_no_others():
    assert set(documented()) == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(model_types()) | set(UNBUILT) == set(documented())
    tried = {
        name: found.removeprefix("refused: ") for name, found in documented().items() if name not in UNBUILT
    }
    page = (ROOT / "docs" / "explanation" / "models.md").read_text(encoding="utf-8")
    assert page.split(BEGIN)[1].split(END)[0] == table(tried)
    frequent = (
        "llama mistral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3 phi phi3 gpt_oss mixtral gpt2 "
        "gpt_neox opt olmo olmo2 olmo3 granite smollm3 starcoder2 stablelm cohere cohere2 deepseek_v2 "
        "deepseek_v3 glm4 exaone4 nemotron llama4"
    )
    assert {documented()[name] for name in frequent.split()} == {EXACT}
