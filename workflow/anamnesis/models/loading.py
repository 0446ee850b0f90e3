"""Loading a snapshot and the adapters trained on top of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from anamnesis.core.artifacts import SUMS, damaged_file, read_json
from anamnesis.core.errors import UserError, first_line
from anamnesis.models.tokenizers import without_dropout

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_KINDS = ("LORA", "OSF")
_LAYERS = re.compile(r".*?\.(?=\d+\.)")  # what the names of weights in numbered layers begin with


def choose_device(name: str) -> str:
    """'cuda' or 'cpu' for 'auto'; otherwise ``name`` itself. Raises UserError for CUDA on a machine without
    it.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model.device is '{name}' but torch finds no CUDA device: use auto or cpu")
    return name


@dataclass
class Loaded:
    """A model in evaluation mode, its tokenizer, and what ``products.by_columns`` gives of it once made."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    columns: dict[str, torch.Tensor] | None = None


_ahead: dict[tuple, Loaded] = {}  # at most one, by what it was loaded from


def load_ahead(snapshot: str, dtype: str = "float32", device: str = "auto") -> None:
    """Load a snapshot for the forks that this process will have: the first :func:`load_model` or
    :func:`load_frozen` of each takes it, and all share its memory. For a CPU only.
    """
    from anamnesis.models.products import by_columns

    if choose_device(device) == "cpu" and (key := _state(Path(snapshot), dtype)) not in _ahead:
        _ahead.clear()
        loaded = _load(Path(snapshot), dtype, "cpu")
        loaded.columns = dict(by_columns(loaded.model))
        _ahead[key] = loaded


def load_model(snapshot: Path, dtype: str = "float32", device: str = "auto", gpus: int = 1):
    """(model in evaluation mode, tokenizer) from a snapshot folder. ``dtype``: float32, bfloat16, float16 or
    auto. With more than one of ``gpus`` the layers are laid over so many, on CUDA. Raises UserError for a
    folder that is none and for GPUs that are not there.
    """
    loaded = _load(snapshot, dtype, device, gpus)
    return loaded.model, loaded.tokenizer


def load_frozen(snapshot: Path, **options):
    """As :func:`load_model`, with weights that take no gradient: for all that only measures."""
    from anamnesis.models.products import by_columns

    loaded = _load(snapshot, **options)
    model = loaded.model.requires_grad_(False)
    for name, weight in by_columns(model) if loaded.columns is None else loaded.columns.items():
        model.get_submodule(name).weight.data = weight
    return model, loaded.tokenizer


def _state(snapshot: Path, dtype: str) -> tuple:
    """What a loaded model depends on."""
    files = [(file.name, file.stat()) for file in sorted(snapshot.glob("*"))]
    return str(snapshot), snapshot.resolve(), dtype, *((n, s.st_ino, s.st_mtime_ns) for n, s in files)


def _load(snapshot: Path, dtype: str = "float32", device: str = "auto", gpus: int = 1) -> Loaded:
    import torch

    snapshot = Path(snapshot)
    if not (snapshot / "config.json").exists():
        raise UserError(
            f"{snapshot} is not a model snapshot (no config.json): run the rule prepare_model again"
        )
    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    device = choose_device(device)
    if device == "cpu" and _ahead and (loaded := _ahead.pop(_state(snapshot, dtype), None)):
        return loaded
    over = {}
    if gpus > 1 and device == "cuda":
        size = 0 if dtype == "auto" else kind.itemsize * sum(map(prod, weight_sizes(snapshot).values()))
        over = _laid_over(gpus, size)
    try:
        tokenizer = load_tokenizer(snapshot)
        model = read_weights(snapshot, dtype=kind, use_safetensors=True, **over)
    except Exception as error:  # a cut file fails in safetensors, json or transformers: one remedy for all
        raise UserError(
            f"the model snapshot {snapshot} cannot be read ({first_line(error)}): delete it and run again"
        ) from error
    return Loaded((model if over else model.to(device)).eval(), tokenizer)


def load_tokenizer(snapshot: Path):
    """The tokenizer of a snapshot folder, without remote code."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(snapshot, local_files_only=True, trust_remote_code=False)
    return without_dropout(tokenizer)


def check_tokenizer(tokenizer, model) -> None:
    """Raise UserError for a tokenizer that gives ids which the embedding of ``model`` has no row for, or
    that does not say where in a text its tokens begin. Fewer ids than rows are fine.
    """
    # Special tokens that neither the tokenizer itself nor its chat template uses are given by no text.
    used = {*tokenizer("").input_ids, tokenizer.eos_token_id}
    template = str(tokenizer.chat_template or "")
    unused = {
        i
        for i, token in tokenizer.added_tokens_decoder.items()
        if token.special and i not in used and token.content not in template
    }
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(set(tokenizer.get_vocab().values()) - unused)
    if largest >= rows:
        raise UserError(
            f"the tokenizer gives ids up to {largest}, but the embedding of {type(model).__name__} has "
            f"{rows} rows: give the model its own tokenizer, or add rows with resize_token_embeddings"
        )
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} does not say where in a text its tokens begin, which "
            "long inputs are cut by: add its tokenizer.json (save_pretrained of a fast tokenizer writes it)"
        )


def check_finite(model) -> None:
    """Raise UserError for weights that are no numbers: some texts would show it, and others not."""
    if broken := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise UserError(
            f"{len(broken)} weights of {type(model).__name__} hold NaN or infinite values, the first is "
            f"{broken[0]}: take an earlier checkpoint, or another copy of the model"
        )


def weight_sizes(snapshot: Path) -> dict[str, list[int]]:
    """The size of every weight of a snapshot by its name, from the headers of its files: without torch, which
    the start of Snakemake has no time for. Raises UserError for a damaged file.
    """
    from safetensors import safe_open

    sizes: dict[str, list[int]] = {}
    for path in sorted(snapshot.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                sizes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own kinds
            raise UserError(
                f"the model snapshot {snapshot} cannot be read ({first_line(error)}): delete it and run again"
            ) from error
    return sizes


def _laid_over(gpus: int, size: int) -> dict:
    """Options of transformers that lay the layers of a model of ``size`` bytes over so many GPUs, and nowhere
    else.
    """
    import torch

    seen = torch.cuda.device_count()
    if seen < gpus:
        raise UserError(
            f"model.gpus is {gpus}, but this job sees {seen} GPUs: give it as many (resource gpu), or lower "
            "model.gpus"
        )
    room = {k: torch.cuda.get_device_properties(k).total_memory for k in range(gpus)}
    if size > sum(room.values()):
        raise UserError(
            f"model.gpus is {gpus}, but the weights take {size / 1e9:.3g} GB and these GPUs have "
            f"{sum(room.values()) / 1e9:.3g}: raise it"
        )
    return {"device_map": "balanced", "max_memory": room}


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the terminal; afterwards they are as the caller had them."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    if shown:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def read_weights(folder: Path, **options):
    """The decoder in a folder, read without remote code and without progress bars.

    Raises ValueError when weights are missing, which transformers alone would draw at random, and when some
    have no place in the model: it would compute something else than what they were trained in.
    """
    from transformers import AutoModelForCausalLM

    with without_progress_bars():
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True, **options
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} of its weights are missing, the first is {missing[0]}")
    if unused := sorted(_unused(found["unexpected_keys"], model)):
        raise ValueError(
            f"{len(unused)} of its weights, the first is {unused[0]}, have no place in the model that its "
            "config.json describes, which is another model's or was edited"
        )
    return model


def _unused(unexpected: Iterable[str], model) -> Iterator[str]:
    """Of weights that were not loaded, those that would have had a say: matrices and norms of decoder layers,
    and biases of modules that the model has. Buffers of older versions and towers for images have none.
    """
    present, config = set(model.state_dict()), model.config.get_text_config()
    layers = tuple({match[0] for name in present if (match := _LAYERS.match(name))})
    # layers that predict further tokens stand behind the others, and no model here runs them
    further = getattr(config, "num_nextn_predict_layers", None) or 0
    further = range(config.num_hidden_layers, config.num_hidden_layers + further)
    extra = tuple(f"{layer}{number}." for layer in layers for number in further)
    for name in unexpected:
        module, _, kind = name.rpartition(".")
        if name.startswith(extra):
            continue
        if (kind == "weight" and name.startswith(layers)) or (
            kind == "bias" and f"{module}.weight" in present
        ):
            yield name


def merge_adapters(model, adapters: Sequence[Path]):
    """The model with PEFT adapters merged into its weights, in the order given."""
    for adapter in adapters:
        model = open_adapter(model, Path(adapter)).merge_and_unload()
    return model.eval()


def open_adapter(model, adapter: Path, trainable: bool = False):
    """``model`` with a PEFT adapter on top. Raises UserError for a damaged one or one of another model, and
    for other kinds than are trained here: some of PEFT's read further files, import modules or ask a hub.
    """
    from peft import PeftModel

    if not (adapter / "adapter_config.json").exists():
        raise UserError(f"{adapter} is not a PEFT adapter (no adapter_config.json): train its stage again")
    try:
        with warnings.catch_warnings():  # PEFT only warns of missing weights: the stage would be lost unseen
            warnings.filterwarnings(
                "error", message="Found missing adapter keys|Unexpected keyword arguments"
            )
            if (adapter / SUMS).exists() and (damaged := damaged_file(adapter)):
                raise ValueError(f"{damaged} is not what was written")
            check_adapter(adapter)
            return PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    except Exception as error:  # cut file, other shapes, missing modules: the remedy is the same
        raise UserError(
            f"the adapter {adapter} cannot be loaded on this model ({first_line(error)}): it is damaged or "
            "belongs to another model; delete its stage folder and run again"
        ) from error


def check_adapter(adapter: Path) -> None:
    """Raise ValueError for an adapter of a kind that is not trained here, or without safetensors."""
    if not (adapter / "adapter_model.safetensors").exists():  # PEFT would take pickled ones, or ask a hub
        raise ValueError("it has no adapter_model.safetensors")
    settings = read_json(adapter / "adapter_config.json")
    if settings.get("peft_type") not in ADAPTER_KINDS:
        raise ValueError(f"its peft_type is none of {', '.join(ADAPTER_KINDS)}")
    if settings.get("megatron_config"):  # names a module to import
        raise ValueError("megatron_config is not supported")
