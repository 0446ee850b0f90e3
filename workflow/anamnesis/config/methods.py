"""What the configuration knows of the training methods: their names, their sections, and variants.

"Paper" is the paper of the method named; "authors' code" what was released with arXiv 2406.12227 or, for jfa
and fvg, with their own papers.
"""

from __future__ import annotations

from inspect import getdoc
from typing import Annotated, Any

from pydantic import Field, create_model

from anamnesis.core.fields import Name, Section
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.training.slices import method_names, slice_of

METHOD_NAMES = tuple(name + suffix for name in method_names() for suffix in ("", GUIDED_SUFFIX))
"""Everything ``training.methods`` may list besides variants."""


def _section_of_methods() -> type[Section]:
    """The model of the section ``methods``: for each method with settings a section of its name."""
    models = {name: model for name in method_names() if (model := slice_of(name).settings)}
    fields: dict[str, Any] = {
        name: (model, Field(default_factory=model, description=" ".join((getdoc(model) or "").split())))
        for name, model in models.items()
    }
    about = "Settings of the training methods that have any, by method."
    return create_model("Methods", __base__=Section, __doc__=about, __module__=__name__, **fields)


Methods = _section_of_methods()


class Variant(Section):
    """A method under other settings: what is given here replaces the experiment's own."""

    of: Annotated[Name, Field(json_schema_extra={"enum": list(METHOD_NAMES)})] = Field(
        description="The method it is a variant of."
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the section training, such as {lora: {rank: 48}}."
    )
    guidance: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the section guidance, such as {control: random_heads}."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the method's own section, such as {flashbacks: 0}."
    )
    against: tuple[Name, ...] = Field(
        (), description="Methods it is compared with, besides the one it is a variant of."
    )
