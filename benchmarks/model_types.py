"""Every model type that transformers loads as a causal language model, built small with random weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

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
LATENT = {"num_key_value_heads": 4, "head_dim": 8}  # keys and values of low rank: as many as there are heads
FURTHER: dict[str, dict] = {
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 24, "mamba_chunk_size": 8},
    "blt": {"encoder_hash_byte_group_vocab": 64, "encoder_hash_byte_group_size": [3]},
    "codegen": {"rotary_dim": 8},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2},
    "dots3_note": {"num_key_value_heads": 4},
    "dots3_note_text": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_head": 24, "mamba_d_ssm": 96, "mamba_chunk_size": 8},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": 320,
        "activation_sparsity_pattern": 0.0,
    },
    "gemma4": {"text_config": {"vocab_size_per_layer_input": 320, "global_head_dim": 20}},
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 320}
    },
    "gemma4_text": {"vocab_size_per_layer_input": 320, "global_head_dim": 20},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"mamba_n_heads": 4, "mamba_d_head": 24, "mamba_chunk_size": 8},
    "hunyuan_v1_dense": {"head_dim": 12},
    "hunyuan_v1_moe": {"head_dim": 12},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"head_dim": 24},
    "ministral": {"head_dim": 12},
    "minicpm3": {"num_key_value_heads": 4},
    "nemotron": {"head_dim": 12},
    "reformer": {"is_decoder": True},
    "stablelm": {"partial_rotary_factor": 0.5},
    "zamba": {"attention_head_dim": 24, "attention_hidden_size": 96, "mamba_dt_rank": 4},
    "zamba2": {"attention_head_dim": 24, "attention_hidden_size": 96, "n_mamba_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
}
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
    further = (LATENT if config.get("kv_lora_rank") and config.get("head_dim") else {}) | dict(further)
    for name, value in config.items():
        if isinstance(value, Mapping) and "model_type" in value:
            found[name] = shrunk(value, further.get(name, {}))
        elif name in SHRUNK and value is not None:
            found[name] = SHRUNK[name]
        elif isinstance(value, list | tuple) and layers and len(value) == layers:
            found[name] = few(value)
        elif name.endswith("token_id") or name.endswith("token_index"):
            found[name] = 0 if isinstance(value, int) else value
    return found | {name: value for name, value in further.items() if not isinstance(value, Mapping)}


def few(values) -> list:
    """As many of a list's values as there are layers, every kind among them."""
    kinds = [v for i, v in enumerate(values) if v not in values[:i]]
    return [kinds[i % len(kinds)] for i in range(LAYERS)]
