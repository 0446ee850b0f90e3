"""Every model type that transformers loads as a causal language model, built small with random weights, and
whether the engine computes it as plain forward passes do.

    python benchmarks/model_types.py docs/explanation/models.md    # writes the table there, in some minutes
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from anamnesis.core.errors import UserError
from anamnesis.engine.exactness import check_exact

LAYERS = 4
SIZES = (
    (LAYERS, "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers depth"),
    (48, "hidden_size n_embd d_model model_dim embedding_size attention_hidden_size emb_dim"),
    (48, "word_embed_proj_dim"),
    (4, "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads"),
    (2, "num_key_value_heads n_head_kv num_kv_heads num_experts_per_tok top_k moe_topk moe_k"),
    (64, "intermediate_size ffn_dim d_ff n_inner ffn_hidden_size decoder_ffn_dim encoder_ffn_dim dff dim_ff"),
    (64, "shared_intermediate_size intermediate_size_mlp"),
    (32, "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size"),
    (12, "head_dim v_head_dim d_kv q_lora_rank kv_lora_rank"),
    (1, "topk_group num_expert_group"),
    (2, "n_group"),
    (8, "qk_rope_head_dim qk_nope_head_dim num_experts num_local_experts n_routed_experts index_head_dim"),
    (1, "n_shared_experts num_shared_experts"),
    (5, "sliding_window window_size attention_window_size"),
    (320, "vocab_size n_words"),
    (512, "max_position_embeddings n_positions n_ctx max_sequence_length"),
)
"""What the settings of a small model are, whatever a type calls them."""
SHRUNK = {name: size for size, names in SIZES for name in names.split()}
LATENT = {"num_key_value_heads": 4, "head_dim": 8}  # of low rank: as many keys as heads
ROTARY = {"rope_type": "default", "rope_theta": 10000.0}
INDEXED = {
    "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 24, "mamba_chunk_size": 8}
PER_LAYER = {"vocab_size_per_layer_input": 320, "global_head_dim": 20}
FURTHER: dict[str, dict] = {
    "bamba": MAMBA,
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROTARY, "sliding_attention": ROTARY}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 96},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 320,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4": {"text_config": PER_LAYER},
    "gemma4_text": PER_LAYER,
    "gpt_bigcode": {"num_key_value_heads": 1},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": MAMBA,
    "hunyuan_v1_dense": {"head_dim": 12},
    "hunyuan_v1_moe": {"head_dim": 12},
    "kimi_linear": {"linear_head_dim": 12, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"head_dim": 24, "n_groups": 1},
    "ministral": {"head_dim": 12},
    "nemotron": {"head_dim": 12, "num_key_value_heads": 2},
    "qwen4_exp": {"text_config": INDEXED},
    "qwen4_exp_text": INDEXED,
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "stablelm": {"partial_rotary_factor": 0.5},
    "zamba": {"attention_head_dim": 24, "attention_hidden_size": 96, "mamba_dt_rank": 4},
    "zamba2": {"attention_head_dim": 24, "attention_hidden_size": 96, "n_mamba_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What a type needs in addition, mostly because some of its settings are products of others."""
SINGLE = ("xglm",)  # fills masks with a number that float64 does not have


def tiny(model_type: str, seed: int = 0) -> torch.nn.Module:
    """A model of the type in evaluation mode, float64, with weights drawn from ``seed`` that are large enough
    for each head, window and cap to change its logits.
    """
    kind = CONFIG_MAPPING[model_type]
    torch.manual_seed(seed)
    config = kind(**shrunk(kind().to_dict(), FURTHER.get(model_type, {})))
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager")  # the others: no float64
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(0.25 * noise)
            else:  # norms and biases
                parameter.add_(0.1 * noise)
    return model.to(torch.float32 if model_type in SINGLE else torch.float64).eval()


def shrunk(config: Mapping, further: Mapping) -> dict:
    """The settings of a configuration that make a small model of it; parts of a composite one by one."""
    found = {}
    layers = next((config[k] for k in ("num_hidden_layers", "n_layer", "num_layers") if k in config), None)
    latent = LATENT if config.get("kv_lora_rank") else {}
    further = {name: value for name, value in latent.items() if config.get(name)} | dict(further)
    for name, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value:
            found[name] = shrunk(value, further.get(name, {}))
        elif name in SHRUNK and value is not None:
            found[name] = SHRUNK[name]
        elif isinstance(value, list | tuple) and layers and len(value) == layers:
            found[name] = few(value)
        elif name.endswith("token_id") or name.endswith("token_index"):
            found[name] = 0 if isinstance(value, int) else value
    parts = [name for name, value in config.items() if isinstance(value, Mapping) and "model_type" in value]
    return found | {name: value for name, value in further.items() if name not in parts}


def few(values) -> list:
    """As many of a list's values as there are layers, every kind among them."""
    kinds = [v for i, v in enumerate(values) if v not in values[:i]]
    return [kinds[i % len(kinds)] for i in range(LAYERS)]


LENGTHS = (7, 6, 8, 5, 20)  # longer than the windows
UNBUILT = {
    "dots3_note": "its parts have sizes that depend on each other",
    "gemma3n": "transformers needs timm for it",
    "gemma4_assistant": "a draft model, which reads another one's states",
    "gemma4_unified_assistant": "a draft model, which reads another one's states",
    "musicgen": "transformers has no decoder for it here",
    "musicgen_melody": "transformers has no decoder for it here",
    "qwen4_exp": "its parts have sizes that depend on each other",
    "qwen4_exp_text": "its parts have sizes that depend on each other",
}
"""Model types that are not built small, and why."""
EXACT = "exact"


def model_types() -> list[str]:
    """All of them but those of ``UNBUILT``."""
    return [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in UNBUILT]


def outcome(model_type: str) -> str:
    """``EXACT``, or why the engine refuses a small model of the type."""
    try:
        check_exact(tiny(model_type), LENGTHS)
    except UserError as error:
        return reason(str(error))
    return EXACT


def reason(message: str) -> str:
    """A refusal without the model's class and without the remedy."""
    for known, words in REASONS.items():
        if known in message:
            return words
    return message


REASONS = {
    "calls no attention through": "attention of its own",
    "mixes tokens outside": "state-space layers, convolutions, or positions counted in the row",
    "no output projection found": "no linear output projection inside the attention module",
    "uses a position bias": "a position bias",
    "use_bidirectional_attention": "attention to later tokens",
    "attention layers of (heads, head size)": "layers with heads of different sizes",
    "does not run on the tokens of texts alone": "needs more than the tokens of a text, or reshapes them",
    "differs from plain forward passes": "attention that depends on more than the tokens before",
}


def table(outcomes: Mapping[str, str]) -> str:
    """Markdown: what is exact, and what is refused for each reason."""
    rows = ["| small models of these types | the engine |", "| --- | --- |"]
    groups: dict[str, list[str]] = {EXACT: []}
    for name, found in outcomes.items():
        groups.setdefault(found, []).append(name)
    for found, names in sorted(groups.items(), key=lambda item: (item[0] != EXACT, -len(item[1]))):
        listed = ", ".join(f"`{name}`" for name in sorted(names))
        rows.append(f"| {listed} | {found if found == EXACT else f'refused: {found}'} |")
    for why in dict.fromkeys(UNBUILT.values()):
        listed = ", ".join(f"`{name}`" for name, own in UNBUILT.items() if own == why)
        rows.append(f"| {listed} | not tried: {why} |")
    return "\n".join(rows)


BEGIN, END = "<!-- model types -->\n", "\n<!-- end of model types -->"


def main() -> None:
    """Write the table into the documents named."""
    written = table({name: outcome(name) for name in model_types()})
    for path in map(Path, sys.argv[1:]):
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        path.write_text(f"{before}{BEGIN}{written}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
