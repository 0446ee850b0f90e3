"""What the parts of the GPU benchmark share: the device, timing, random models and prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from _common import interleaved
from transformers import LlamaConfig, LlamaForCausalLM

from anamnesis.engine.scoring import Question


@dataclass(frozen=True)
class Machine:
    """``small``: tiny shapes and no bars of speed, to try the same code on any device."""

    device: torch.device
    small: bool
    rounds: int
    seed: int

    def speed(self, bar: float) -> float | None:
        """A bar of speed, where one is set."""
        return None if self.small else bar

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, sides: dict[str, Callable[[], object]], rounds: int | None = None) -> dict[str, float]:
        """Median seconds of each side after one warm-up each; the device is idle before and after a call."""

        def finished(work: Callable[[], object]) -> None:
            work()
            self.wait()

        whole = {name: (lambda work=work: finished(work)) for name, work in sides.items()}
        for work in whole.values():
            work()
        return interleaved(whole, rounds or self.rounds)

    def peak(self, work: Callable[[], object]) -> float:
        """Largest memory held by tensors while ``work`` runs, in GB; 0 without a GPU."""
        if self.device.type != "cuda":
            work()
            return 0.0
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) / 1e9

    def facts(self) -> dict:
        """What the numbers were measured on."""
        if self.device.type != "cuda":
            return {"device": "cpu", "small": self.small}
        about = torch.cuda.get_device_properties(self.device)
        return {
            "device": about.name,
            "memory_gb": round(about.total_memory / 1e9, 1),
            "capability": f"{about.major}.{about.minor}",
            "cuda": torch.version.cuda,
            "small": self.small,
        }


def random_llama(machine: Machine, dtype: torch.dtype, **shape) -> LlamaForCausalLM:
    """A Llama of a shape with random weights, made on the device.

    Variances keep their size through every map, so that heads matter to the prediction as they do in a
    trained model; with the initialisation that training starts from, hardly any does. And as in a trained
    model, some heads write far more than others: by log-normal factors.
    """
    config = LlamaConfig(**shape, bos_token_id=0, eos_token_id=0, pad_token_id=0, tie_word_embeddings=False)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with machine.device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator(machine.device).manual_seed(machine.seed)
    embedding = model.get_input_embeddings().weight
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                std = 1.0 if weight is embedding else weight.shape[1] ** -0.5
                weight.normal_(0.0, std, generator=generator)
        for layer in model.model.layers:
            written = layer.self_attn.o_proj.weight  # (hidden_size, n_heads * head_dim)
            factors = torch.randn(config.num_attention_heads, device=machine.device, generator=generator)
            factors = (0.5 * factors).exp().repeat_interleave(layer.self_attn.head_dim)
            written.mul_((factors / factors.square().mean().sqrt()).to(dtype))
    return model.requires_grad_(False).eval()


def random_prompts(lengths: list[int], vocabulary: int, seed: int) -> list[list[int]]:
    """Random token ids, one list for each length; token 0 does not occur."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocabulary, (n,), generator=generator).tolist() for n in lengths]


def answered(engine, prompts: list[list[int]]) -> list[Question]:
    """The prompts, each with the token that the model itself finds likeliest."""
    questions = []
    with torch.no_grad():
        for prompt in prompts:
            tokens = torch.tensor([prompt], device=engine.device)
            best = engine.model(tokens, use_cache=False, logits_to_keep=1).logits[0, -1].argmax()
            questions.append(Question(prompt, [[int(best)]]))
    return questions
