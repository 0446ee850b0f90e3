"""Latent tasks: retrieval by hand, the pool through the stages, and PEFT alone against what is evaluated."""

import json

import pytest
import torch
from jfa_stages import (
    mean_hidden,
    moved,
    past,
    plain_shares,
    stage_of,
    task,
)
from peft import PeftModel

import tiny_models
from anamnesis.core.errors import UserError
from anamnesis.engine.batches import Batch
from anamnesis.engine.generation import Request, generate
from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import Question, score_questions
from anamnesis.models.adapters import save_adapter
from anamnesis.models.loading import load_model, merge_adapters
from anamnesis.training.build import build
from anamnesis.training.methods.jfa.encoder import PromptEncoder
from anamnesis.training.methods.jfa.engine import engine_of
from anamnesis.training.methods.jfa.latent_files import load_pool
from anamnesis.training.methods.jfa.latent_tasks import LatentEngine, LatentPool


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    return tiny_models.save_snapshot(tmp_path_factory.mktemp("base") / "model")


def test_retrieval_by_hand():
    """Two segments of two numbers, three slots; cosines of (3, 4 | 1, 0) with each key."""
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
    pool = LatentPool(keys, torch.zeros(4), torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4), [0], 2)
    # mean cosines: (.6 + 1)/2 = .8, (.8 + 0)/2 = .4, (-.6 + 0)/2 = -.3
    queries = torch.tensor([[3.0, 4.0, 1.0, 0.0], [-1.0, -1.0, -1.0, 1e-6]])
    shares = pool.shares(queries)
    torch.testing.assert_close(shares[0], torch.tensor([2 / 3, 1 / 3, 0.0]))
    # (-.71 - 1)/2, (-.71 + 0)/2, (.71 + 0)/2: the second counts as the smallest allowed
    torch.testing.assert_close(shares[1], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)
    assert shares[1, 1] > 0
    pool.nearest = 3
    negative = pool.shares(torch.tensor([[-1.0, -1.0, -1.0, 1e-6]]) * torch.tensor([-1.0, 1, 1, -1]))
    assert negative.min() > 0
    assert negative.sum().item() == pytest.approx(1.0)
    pool.nearest = 2
    pool.centre += 7.0
    torch.testing.assert_close(pool.shares(queries + 7.0), shares, atol=1e-4, rtol=0)


def test_prompts_that_are_much_alike_retrieve_different_slots_by_what_they_differ_in(snapshot, caplog):
    caplog.set_level("INFO")
    method, _ = build("jfa", stage_of(snapshot))
    engine, prompts = method.stage.engine, [e.prompt for e in method.stage.examples]
    hidden = torch.stack([mean_hidden(snapshot, prompt) for prompt in prompts])
    torch.testing.assert_close(engine.pool.centre, hidden.mean(0), atol=1e-5, rtol=1e-5)
    assert f"{len(engine.retrieved(prompts))} of 5 are retrieved by {len(prompts)} prompts" in caplog.text


@pytest.mark.parametrize("centred", [True, False])
def test_a_pool_that_collapses_is_warned_of(snapshot, monkeypatch, caplog, centred):
    """An encoder for which all prompts are the same but for a thousandth."""
    width = tiny_models.shared("llama").config.hidden_size
    alike = torch.randn(width, generator=torch.Generator().manual_seed(1))

    def encode(self, prompts):
        each = torch.Generator().manual_seed(2)
        return alike + 1e-3 * torch.randn(len(prompts), width, generator=each)

    monkeypatch.setattr(PromptEncoder, "encode", encode)
    method, _ = build("jfa", stage_of(snapshot, centred=centred))
    found = method.stage.engine.retrieved([e.prompt for e in method.stage.examples])
    assert (len(found) > 2) is centred
    assert ("retrieve the same 2 latent tasks" in caplog.text) is not centred


def test_keys_are_orthogonal_frozen_and_the_same_in_all_stages(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot))
    keys = method.stage.engine.pool.keys
    for segment in keys:
        torch.testing.assert_close(segment @ segment.T, torch.eye(5), atol=1e-6, rtol=0)
    assert not any("keys" in name for name in method.stage.trainable)
    assert {"latent_tasks.down", "latent_tasks.up"} <= set(method.stage.trainable)
    first = finished(moved(method), tmp_path / "first")
    second, _ = build("jfa", stage_of(snapshot, [first], past()))
    for name, value in method.stage.engine.pool.state_dict().items():
        assert torch.equal(second.stage.engine.pool.state_dict()[name], value), name


def finished(method, folder, earlier=()):
    folder.mkdir()
    save_adapter(method.stage.engine.model, folder, "tiny", [str(a) for a in earlier])
    method.save(folder)
    return folder


def second_stage(snapshot, tmp_path, layers=(0, 1)):
    """Two stages with latent tasks: (the second method after training, adapter folders)."""
    first, _ = build("jfa", stage_of(snapshot, latent_layers=layers))
    folders = [finished(moved(first), tmp_path / "first")]
    second, _ = build("jfa", stage_of(snapshot, folders, past(), latent_layers=layers))
    folders.append(finished(moved(second, 6), tmp_path / "second", folders))
    return second, folders


@pytest.mark.parametrize("layers", [(0, 1), (1, 2), (2,)], ids=str)
def test_peft_alone_gives_what_is_evaluated(snapshot, tmp_path, layers):
    """As the note in the adapter's folder says: merge, retrieve, and mix the slots' adapters."""
    _, folders = second_stage(snapshot, tmp_path, layers)
    prompts = [list(e.prompt) for e in task(4)]
    answers = [tiny_models.token_ids(50 + i, 1, 3, 2) for i in range(len(prompts))]
    model, tokenizer = load_model(snapshot, device="cpu")
    engine = engine_of(merge_adapters(model, folders), folders, snapshot, tokenizer)
    assert isinstance(engine, LatentEngine)
    questions = [Question(p, a) for p, a in zip(prompts, answers, strict=True)]
    scores = score_questions(engine, questions, 60)
    written = generate(engine, [Request(prompts, 5)], lambda ids: False, 30)[0]
    pool = load_pool(folders[-1])[0]
    settings = json.loads((folders[-1] / "latent" / "settings.json").read_text())
    for prompt, choices, score, ids in zip(prompts, answers, scores, written, strict=True):
        stock = peft_alone(
            snapshot,
            folders,
            plain_shares(mean_hidden(snapshot, prompt) - pool.centre, pool.keys, settings["nearest"]),
        )
        for choice, found in zip(choices, score.log_probability, strict=True):
            logits = stock(torch.tensor([[*prompt, *choice]])).logits[0, len(prompt) - 1 : -1]
            expected = logits.log_softmax(-1).gather(1, torch.tensor(choice)[:, None]).sum().item()
            assert found == pytest.approx(expected, abs=1e-4)
        greedy = []
        for _ in range(5):
            greedy.append(int(stock(torch.tensor([[*prompt, *greedy]])).logits[0, -1].argmax()))
        assert ids == greedy
    note = (folders[-1] / "README.md").read_text()
    assert "add_weighted_adapter" in note
    assert note.index(str(folders[0])) < note.index(str(folders[-1]))


def test_below_the_latent_tasks_a_common_beginning_runs_once(snapshot, tmp_path):
    _, folders = second_stage(snapshot, tmp_path, (2,))
    model, tokenizer = load_model(snapshot, device="cpu")
    engine = engine_of(merge_adapters(model, folders), folders, snapshot, tokenizer)
    rows = tokens_run(engine)
    prompts = [list(e.prompt) for e in task(4)]
    score_questions(engine, [Question(p, [[1]]) for p in prompts], 1000)
    whole = sum(map(len, prompts))
    assert rows == [whole - 2 * (len(prompts) - 1)] * 2 + [whole]  # two tokens are the same in all


def test_in_training_a_common_beginning_runs_once_too(snapshot):
    method, objective = build("jfa", stage_of(snapshot, latent_layers=(2,)))
    batch, *_ = method.batches()
    rows = tokens_run(method.stage.engine)
    objective(method.stage.engine, batch, 0.0)
    whole = sum(e.tree().size for e in batch.examples)
    assert rows[-3:] == [whole - 2 * (len(batch.examples) - 1)] * 2 + [whole]


def tokens_run(engine) -> list[int]:
    """A list that fills with the tokens of each layer that runs."""
    rows: list[int] = []
    for block in engine.geometry.blocks:
        block.self_attn.register_forward_pre_hook(
            lambda module, args, kwargs: rows.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
        )
    return rows


def peft_alone(snapshot, folders, shares: dict[int, float]):
    model, _ = load_model(snapshot, device="cpu")
    for folder in folders:
        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    slots = [f"slot{n:02d}" for n in shares]
    latent = folders[-1] / "latent"
    model = PeftModel.from_pretrained(model, latent / slots[0], adapter_name=slots[0])
    for slot in slots[1:]:
        model.load_adapter(latent / slot, slot)
    model.add_weighted_adapter(slots, list(shares.values()), "prompt", combination_type="cat")
    model.set_adapter("prompt")
    return model.eval()


def test_training_and_evaluation_give_a_prompt_the_same_logits(snapshot, tmp_path):
    method, folders = second_stage(snapshot, tmp_path)
    model, tokenizer = load_model(snapshot, device="cpu")
    engine = engine_of(merge_adapters(model, folders), folders, snapshot, tokenizer)
    for e in method.stage.examples[:2]:
        score = score_questions(engine, [Question(e.prompt, [e.answer])], 999)[0].log_probability[0]
        method.stage.engine.model.eval()
        mean = objective_of(method)(method.stage.engine, Batch((e,)), 0.0).total.item()
        assert score == pytest.approx(-mean * len(e.answer), abs=1e-4)


def objective_of(method):
    return method.objective([], None)


def test_a_chain_without_latent_tasks_is_evaluated_by_the_plain_engine(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot, latent_tasks=False))
    folder = finished(moved(method), tmp_path / "plain")
    assert not (folder / "latent").exists()
    model, tokenizer = load_model(snapshot, device="cpu")
    assert type(engine_of(merge_adapters(model, [folder]), [folder], snapshot, tokenizer)) is PrefixEngine
    assert type(engine_of(model, [], snapshot, tokenizer)) is PrefixEngine


def test_prompts_are_encoded_by_the_base_model_whatever_is_beside_them(snapshot):
    encoder = PromptEncoder("self", 0, snapshot, tiny_models.tokenizer(), torch.float32, "cpu")
    prompts = [e.prompt for e in (*task(0), *task(1))]
    found = encoder.encode(prompts)
    for prompt, vector in zip(prompts, found, strict=True):
        torch.testing.assert_close(vector, mean_hidden(snapshot, prompt, 0), atol=1e-5, rtol=1e-5)


def test_another_encoder_reads_the_text(snapshot, tmp_path):
    other = tiny_models.save_snapshot(tmp_path / "other", "gpt2", seed=3)
    tokenizer = tiny_models.tokenizer()
    prompt = tuple(tokenizer("Say the opposite.\n\nInput: hot\nOutput:")["input_ids"])
    encoder = PromptEncoder(f"path:{other}", 1, snapshot, tokenizer, torch.float32, "cpu")
    torch.testing.assert_close(
        encoder.encode([prompt])[0], mean_hidden(other, prompt, 1), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "path:/nowhere/at/all"}, "no config.json"),
        ({"encoder": "roberta-base"}, "allowed are self, path:<folder>, hf:<id>@<revision>"),
        ({"encoder": "hf:someone/something"}, "name a revision"),
        ({"encoder_layer": 3}, r"has 3 layers \(0-2\)"),
        ({"latent_layers": [1, 3]}, r"latent_layers names layer 3, .*layers \(0-2\)"),
        ({"segments": 5}, "does not divide the encoder's width of 48"),
    ],
)
def test_settings_that_do_not_fit_are_refused(snapshot, changes, message):
    with pytest.raises(UserError, match=message):
        build("jfa", stage_of(snapshot, **changes))


def test_a_damaged_pool_is_refused(snapshot, tmp_path):
    method, _ = build("jfa", stage_of(snapshot))
    folder = finished(method, tmp_path / "first")
    (folder / "latent" / "slot03" / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"slot03.*damaged or incomplete"):
        load_pool(folder)
    settings = json.loads((folder / "latent" / "settings.json").read_text())
    for broken in ({"slots": "3"}, {"projections": ["elsewhere"], "slots": 2}, {"slots": 0}):
        (folder / "latent" / "settings.json").write_text(json.dumps(settings | broken))
        with pytest.raises(UserError, match="do not fit together"):
            load_pool(folder)
    (folder / "latent" / "settings.json").write_text("{}")
    with pytest.raises(UserError, match="do not fit together"):
        load_pool(folder)


def test_an_encoder_with_pickled_weights_is_refused(snapshot, tmp_path):
    other = tiny_models.save_snapshot(tmp_path / "other", "gpt2")
    (other / "model.safetensors").unlink()
    torch.save(tiny_models.shared("gpt2").state_dict(), other / "pytorch_model.bin")
    tokenizer = tiny_models.tokenizer()
    encoder = PromptEncoder(f"path:{other}", 1, snapshot, tokenizer, torch.float32, "cpu")
    with pytest.raises(UserError, match=r"encoder 'path:\S*other' cannot be read \(.*safetensors"):
        encoder.encode([(1, 2, 3)])


def test_an_adapter_in_the_folder_of_an_encoder_is_left_out(snapshot, tmp_path):
    other, prompt = tiny_models.save_snapshot(tmp_path / "other", "gpt2"), (5, 6, 7)
    adapter = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone")}
    (other / "adapter_config.json").write_text(json.dumps(adapter))
    encoder = PromptEncoder(f"path:{other}", 1, snapshot, tiny_models.tokenizer(), torch.float32, "cpu")
    found = encoder.encode([prompt])[0]
    (other / "adapter_config.json").unlink()
    torch.testing.assert_close(found, mean_hidden(other, prompt, 1), atol=1e-5, rtol=1e-5)
