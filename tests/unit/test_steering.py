"""A vector added in any call of transformers equals a plain loop that adds it at every step."""

from __future__ import annotations

import re
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

import reference
from anamnesis.core.errors import UserError
from anamnesis.engine.heads import find_heads
from anamnesis.study import steered
from anamnesis.study.steering import decoder_layers
from tiny_models import ARCHITECTURES, END, build, shared, token_ids

NEW, LAYERS, SCALE = 6, [0, 2], 3.0
POSITIONS = ["all", "last_prompt_token", "generated", [0, -2]]
GREEDY = {"max_new_tokens": NEW, "do_sample": False, "min_new_tokens": NEW}


def vector(seed: int = 1) -> torch.Tensor:
    return torch.randn(48, generator=torch.Generator().manual_seed(seed))


def plain(model, prompt, positions, layers=LAYERS, added=None, count=NEW) -> list[int]:
    """Greedy tokens by a full pass for each, with a hook of its own that adds the vector at the places."""
    added, ids = SCALE * vector() if added is None else added, list(prompt)
    for _ in range(count):
        places = {
            "all": range(len(ids)),
            "last_prompt_token": [len(prompt) - 1],
            "generated": range(len(prompt), len(ids)),
        }.get(positions) if isinstance(positions, str) else [p % len(prompt) for p in positions]  # fmt: skip

        def add(module, args, output, places=tuple(places)):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[0, list(places)] += added
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        with ExitStack() as stack, torch.no_grad():
            for layer in layers:
                stack.callback(reference.blocks(model)[layer].register_forward_hook(add).remove)
            logits = reference.logits(model, ids)[-1]
            logits[END] = -torch.inf
            ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


def padded(prompts, side="left"):
    longest = max(map(len, prompts))
    rows = [([END] * (longest - len(p)), list(p)) for p in prompts]
    ids = torch.tensor([a + b if side == "left" else b + a for a, b in rows])
    mask = torch.tensor(
        [[0] * len(a) + [1] * len(b) if side == "left" else [1] * len(b) + [0] * len(a) for a, b in rows]
    )
    return {"input_ids": ids, "attention_mask": mask}


def state(model) -> list:
    """What a context could leave behind on the modules."""
    kinds = ("", "_pre")
    named = [f"_forward{kind}_hooks{more}" for kind in kinds for more in ("", "_with_kwargs")]
    return [
        ([dict(getattr(module, name)) for name in named], "generate" in vars(module), module.training)
        for module in model.modules()
    ]


PROMPTS = token_ids(3, 9, 5, 7)


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"use_cache": False}, {"cache_implementation": "static", "disable_compile": True}],
    ids=["cache", "no cache", "static cache"],
)
def test_left_padded_generation_equals_the_plain_loop(positions, options):
    model = shared("llama")
    before = state(model)
    with steered(model, vector(), LAYERS, SCALE, positions):
        found = model.generate(**padded(PROMPTS), **GREEDY, **options)[:, -NEW:].tolist()
    assert found == [plain(model, p, positions) for p in PROMPTS]
    without = [plain(model, p, positions, layers=[]) for p in PROMPTS]
    assert found != without
    assert state(model) == before
    assert model.generate(**padded(PROMPTS), **GREEDY)[:, -NEW:].tolist() == without


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
@pytest.mark.parametrize(
    "options",
    [{"prefill_chunk_size": 2}, {"prompt_lookup_num_tokens": 2}],
    ids=lambda options: next(iter(options)),
)
def test_prompts_in_chunks_and_guessed_tokens_are_placed_alike(positions, options):
    model = shared("llama")
    prompt = [*PROMPTS[0][:4], *PROMPTS[0]]  # repeats itself, so that there is something to guess
    with steered(model, vector(), LAYERS, SCALE, positions):
        found = model.generate(torch.tensor([prompt]), **GREEDY, **options)[0, -NEW:].tolist()
    assert found == plain(model, prompt, positions)
    assert found != plain(model, prompt, positions, layers=[])


def test_several_samples_of_a_prompt_are_steered_alike():
    model, options = shared("llama"), {**GREEDY, "do_sample": True, "top_k": 1, "num_return_sequences": 2}
    with steered(model, vector(), LAYERS, SCALE, [0, -1]):
        found = model.generate(**padded(PROMPTS), **options)[:, -NEW:].tolist()
    assert found == [plain(model, p, [0, -1]) for p in PROMPTS for _ in range(2)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_steered(name):
    model = shared(name)
    assert list(decoder_layers(model)[1]) == list(find_heads(model).blocks)
    size = model.config.get_text_config().hidden_size
    added = torch.randn(size, generator=torch.Generator().manual_seed(5))
    with steered(model, added, np.array([1]), 10, "generated"):
        found = model.generate(torch.tensor([PROMPTS[0]]), **GREEDY)[0, -NEW:].tolist()
    assert found == plain(model, PROMPTS[0], "generated", [1], 10 * added)
    assert found != plain(model, PROMPTS[0], "generated", [])


def test_a_vector_for_each_layer_and_nested_contexts_add_up():
    model, ids = shared("llama"), torch.tensor([PROMPTS[0]])
    rows = torch.stack([vector(1), vector(2)])
    with torch.no_grad():
        with steered(model, rows, LAYERS, 2.0, "last_prompt_token"):
            together = model(ids).logits
        with steered(model, vector(1), 0, 2.0, [-1]), steered(model, vector(2), 2, 2.0, [-1]):
            nested = model(ids).logits
            with steered(model, vector(2), 2, -2.0, [-1]):
                undone = model(ids).logits
        with steered(model, vector(1), 0, 2.0, [-1]):
            first = model(ids).logits
    torch.testing.assert_close(nested, together, rtol=0, atol=0)
    torch.testing.assert_close(undone, first)
    assert not torch.allclose(first, nested)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_no_place_of_a_prompt(side):
    """The logits of real tokens are those of each prompt alone."""
    model, inputs = shared("llama"), padded(PROMPTS, side)
    with torch.no_grad(), steered(model, vector(), 1, SCALE, [0, -1]):
        together = model(**inputs).logits
        for row, prompt in enumerate(PROMPTS):
            alone = model(torch.tensor([prompt])).logits[0]
            reference.close(together[row][inputs["attention_mask"][row].bool()], alone)


def test_tokens_behind_a_filled_cache_are_generated():
    model, ids = shared("llama"), torch.tensor([PROMPTS[0]])
    with torch.no_grad(), steered(model, vector(), 1, SCALE, "generated"):
        prompt = model(ids[:, :6], use_cache=True)
        new = model(ids[:, 6:], past_key_values=prompt.past_key_values).logits[0]
    with torch.no_grad():
        reference.close(prompt.logits[0], model(ids[:, :6]).logits[0])

    def add(module, args, output):
        return output + SCALE * vector() * (torch.arange(9) >= 6)[:, None]

    handle = reference.blocks(model)[1].register_forward_hook(add)
    with torch.no_grad():
        expected = model(ids).logits[0, 6:]
    handle.remove()
    reference.close(new, expected)


def test_beams_are_steered_as_their_prompt():
    """The best beams of prompts together are those of each alone without padding, and not the unsteered."""
    model, options = shared("llama"), {**GREEDY, "num_beams": 3}
    for positions in POSITIONS:
        with steered(model, vector(), LAYERS, SCALE, positions):
            together = model.generate(**padded(PROMPTS), **options)[:, -NEW:].tolist()
            alone = [model.generate(torch.tensor([p]), **options)[0, -NEW:].tolist() for p in PROMPTS]
        assert together == alone
        assert together != model.generate(**padded(PROMPTS), **options)[:, -NEW:].tolist()


@pytest.mark.parametrize("positions", POSITIONS, ids=str)
def test_adapters_are_steered_like_the_merged_model(positions):
    base = build("llama")
    tuned = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules=["o_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(2))
    tuned.eval()
    before, inputs = state(tuned), padded(PROMPTS)
    with steered(tuned, vector(), LAYERS, SCALE, positions):
        found = tuned.generate(**inputs, **GREEDY)[:, -NEW:].tolist()
        with torch.no_grad():
            logits = tuned(**inputs).logits[:, -1]
    assert state(tuned) == before
    with tuned.disable_adapter(), steered(tuned, vector(), LAYERS, SCALE, positions):
        assert tuned.generate(**inputs, **GREEDY)[:, -NEW:].tolist() == [
            plain(build("llama"), p, positions) for p in PROMPTS
        ]
    merged = tuned.merge_and_unload()
    assert found == [plain(merged, p, positions) for p in PROMPTS]
    with torch.no_grad(), steered(merged, vector(), LAYERS, SCALE, positions):
        reference.close(logits, merged(**inputs).logits[:, -1])


def test_an_adapter_that_transformers_added_is_steered_too():
    model = build("llama")
    model.add_adapter(LoraConfig(task_type="CAUSAL_LM", target_modules=["v_proj"]))  # changes nothing yet
    with steered(model, vector(), LAYERS, SCALE, "generated"):
        found = model.generate(torch.tensor([PROMPTS[0]]), **GREEDY)[0, -NEW:].tolist()
    assert found == plain(shared("llama"), PROMPTS[0], "generated")


def test_an_error_inside_leaves_the_model_as_it_was():
    model = build("llama")
    before = state(model)
    outer, inner = steered(model, vector(), 0, 1.0, "generated"), steered(model, vector(), 0, 1.0, [9])
    with pytest.raises(UserError, match="positions has 9"), outer, inner:
        model.generate(torch.tensor([PROMPTS[0]]), **GREEDY)
    assert state(model) == before
    with steered(model, vector(), 0, SCALE, "generated"):
        assert model.generate(torch.tensor([PROMPTS[0]]), **GREEDY)[0, -NEW:].tolist() == plain(
            model, PROMPTS[0], "generated", [0]
        )


def test_a_gradient_reaches_what_lies_below():
    model, ids = build("llama"), torch.tensor([PROMPTS[0]])
    with steered(model, vector(), 1, SCALE, "last_prompt_token"):
        model(ids).logits[0, -1].square().sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((vector(), 3), "layers has 3, but the model has 3 (0-2)"),
        ((vector(), [-1]), "layers has -1"),
        ((vector()[:40], 0), "the vector has the shape (40,): the model takes (48,)"),
        ((vector(), 0, 1.0, "last"), "positions is 'last': give 'all', 'last_prompt_token', 'generated'"),
        ((vector(), 0, 1.0, [0.5]), "positions is [0.5]"),
        ((vector(), 0, 1.0, [9]), "positions has 9, but a prompt has 9 tokens"),
        ((vector(), 0, 1.0, [-10]), "positions has -10"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments, message):
    model = shared("llama")
    with pytest.raises(UserError, match=re.escape(message)), steered(model, *arguments):
        model(torch.tensor([PROMPTS[0]]))


def test_what_is_no_decoder_is_refused():
    with (
        pytest.raises(UserError, match="Linear has no list of decoder layers"),
        steered(nn.Linear(2, 2), vector(), 0),
    ):
        pass


def test_virtual_tokens_move_places():
    tuned = get_peft_model(build("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(UserError, match="positions must be 'all'"), steered(tuned, vector(), 0, 1.0, [-1]):
        pass


def test_the_engine_runs_in_a_model_that_is_steered_everywhere_only():
    from anamnesis.engine.pack import Pack, Tree
    from anamnesis.engine.prefix_engine import PrefixEngine

    model, prompt = shared("llama"), PROMPTS[0]
    engine, pack = PrefixEngine(model), Pack((Tree(PROMPTS[1]), Tree(prompt)))
    with torch.no_grad(), steered(model, vector(), 1, SCALE):
        reference.close(engine.run(pack, [pack.trunk_end(1)]), model(torch.tensor([prompt])).logits[:, -1])
    with pytest.raises(UserError, match="needs positions='all'"), steered(model, vector(), 1, SCALE, [-1]):
        engine.run(pack, [pack.trunk_end(1)])
