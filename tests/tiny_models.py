"""Tiny random decoders and a tiny tokenizer, built in code: every architecture the engine is checked on.

Weights are drawn large enough that each head, the window and the soft cap change the logits by far more than
the tolerance of the tests.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

VOCABULARY = 320
END = 0  # id of the end-of-text token
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": END,
    "tie_word_embeddings": False,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": END,
    "eos_token_id": END,
}
MIXTURE = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
REACH = 63  # tokens of a text of Llama 4 below, before attention goes by chunks and is scaled
LLAMA4 = {
    "head_dim": 12, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 64,
    "interleave_moe_layer_step": 2, "no_rope_layers": [1, 0, 1], "attention_chunk_size": REACH + 1,
    "floor_scale": REACH + 1,
}  # fmt: skip
ALTERNATING = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}

# name -> model with transformers' own random weights; what is special about it stands at the end of the line
BUILDERS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),  # grouped-query attention
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED, head_dim=20)),  # head_dim * heads != hidden size
    "gemma3": lambda: Gemma3ForCausalLM(  # one key head, sliding and full layers in turn
        Gemma3TextConfig(**{**COMMON, **ALTERNATING}, num_key_value_heads=1, head_dim=16, sliding_window=7)
    ),
    "gemma2": lambda: Gemma2ForCausalLM(  # soft-capped scores
        Gemma2Config(
            **GROUPED,
            head_dim=16,
            sliding_window=5,
            query_pre_attn_scalar=16,
            attn_logit_softcapping=2.0,
            attn_implementation="eager",  # some versions' default leaves the cap out
        )
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=4)),  # all layers slide
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),  # Conv1D projection with a bias, learned positions
    "neox": lambda: GPTNeoXForCausalLM(  # fused and biased projections, parallel residual
        GPTNeoXConfig(**{**COMMON, "hidden_size": 64})
    ),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**GROUPED)),  # fused projections
    "mixtral": lambda: MixtralForCausalLM(  # two of four experts for each token
        MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2)
    ),
    "qwen3_moe": lambda: Qwen3MoeForCausalLM(  # the second layer has no experts
        Qwen3MoeConfig(**GROUPED, **MIXTURE, head_dim=20, mlp_only_layers=[1])
    ),
    "llama4": lambda: Llama4ForCausalLM(Llama4TextConfig(**GROUPED, **LLAMA4)),  # a shared expert, chunks
}
ARCHITECTURES = tuple(BUILDERS)
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12}
# not in the list above, as its keys and values differ in width and its configuration has no one head size
BUILDERS["deepseek"] = lambda: DeepseekV3ForCausalLM(
    DeepseekV3Config(**COMMON, **LATENT, num_key_value_heads=4, first_k_dense_replace=3)
)
WINDOWED = ("gemma3", "gemma2", "mistral")


def build(name: str, seed: int = 0) -> torch.nn.Module:
    """A new model of the architecture, in evaluation mode, with weights drawn from ``seed``."""
    return drawn(BUILDERS[name](), seed)


def drawn(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The model in evaluation mode, with weights drawn anew from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(0.25 * noise)
            else:  # norms and biases
                parameter.add_(0.1 * noise)
    return model.eval()


@cache
def shared(name: str) -> torch.nn.Module:
    """The model ``build(name)``, built once for all tests, which must leave it as it is."""
    return build(name)


def token_ids(seed: int, *lengths: int) -> list[list[int]]:
    """Random sequences of the lengths asked for; the end-of-text token does not occur."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learnt below. It reads any text; most words take several tokens."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 20,
        special_tokens=["<end>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(["Input: hot\nOutput: cold\n\nInput: big\nOutput: small"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=learnt, eos_token="<end>", pad_token="<end>")


def save_snapshot(folder: Path, name: str = "llama", seed: int = 0) -> Path:
    """A model and the tokenizer in Hugging Face format."""
    build(name, seed).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_gguf(path: Path, model: LlamaForCausalLM) -> Path:
    """A Llama model and the tokenizer as one GGUF file of float32 tensors."""
    import json

    import gguf

    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer().backend_tokenizer.to_str())["model"]
    words = sorted(bpe["vocab"], key=bpe["vocab"].get)
    words += [f"<unused{i}>" for i in range(config.vocab_size - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([1] * len(words))
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        stem, weight = name.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{weight}", _gguf_order(name, tensor, config).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_order(name: str, tensor: torch.Tensor, config) -> torch.Tensor:
    """GGUF interleaves the halves that rotary embeddings turn in each head of queries and keys."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(
        name.split(".")[-2]
    )
    if heads is None:
        return tensor
    halves = tensor.reshape(heads, 2, -1, tensor.shape[1])
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
