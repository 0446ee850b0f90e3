"""The copies of the configuration agree: its model, its schema, the commented file and the experiments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from anamnesis.commands.schema import SCHEMA_PATH, schema_text
from anamnesis.config import METHOD_NAMES, Config, load_config
from anamnesis.config.models import UserTask
from anamnesis.data.catalogue import CATALOGUE, SEQUENCES
from anamnesis.training.slices import method_names

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "config.yaml"
EXPERIMENTS = sorted((ROOT / "workflow" / "experiments").glob("*.yaml"))


def dotted_keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    """Every key of ``model``, those of its sections included."""
    keys = set()
    for name, field in model.model_fields.items():
        keys.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys |= dotted_keys(field.annotation, f"{prefix}{name}.")
    return keys


def commented_keys(text: str) -> tuple[set[str], set[str]]:
    """The keys of a YAML text by indentation: all of them, and those with a comment on the line before."""
    found, commented, stack, before = set(), set(), [], ""
    for line in text.splitlines():
        match = re.match(r"( *)([a-z0-9_-]+):", line)
        if match:
            stack = [*stack[: len(match[1]) // 2], match[2]]
            found.add(".".join(stack))
            if before.lstrip().startswith("#"):
                commented.add(".".join(stack))
        before = line
    return found, commented


def test_schema_file_is_in_step():
    fix = "run: PYTHONPATH=workflow python -m anamnesis.commands.schema"
    assert SCHEMA_PATH.is_file(), fix
    assert SCHEMA_PATH.read_text(encoding="utf-8") == schema_text(), fix


def test_config_yaml_shows_every_key_with_a_comment():
    found, commented = commented_keys(DEFAULT.read_text(encoding="utf-8"))
    expected = dotted_keys(Config)
    assert found == expected
    assert commented == expected


def test_config_yaml_shows_the_defaults_of_the_model():
    shown = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    required = {"suite": shown["suite"], "interventions": {"sets": shown["interventions"]["sets"]}}
    assert load_config(DEFAULT) == Config.model_validate(required)


def test_every_field_is_described():
    models = [Config, UserTask]
    for model in models:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                models.append(field.annotation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of benchmarks, of which only the names of the files are looked at."""
    made = tmp_path_factory.mktemp("benchmarks")
    for name in {*CATALOGUE, *(task for sequence in SEQUENCES.values() for task in sequence)}:
        (made / f"{name}.parquet").touch()
    return made


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_valid_on_top_of_what_they_say(path, folder):
    """Their first lines name the experiment they go on top of, if it is another than the default, and say
    whether they read a folder of benchmarks.
    """
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"--configfile (.*)", text)[0].split()
    root = [{"data": {"root": str(folder)}}] if "data={root:" in text else []
    config = load_config([DEFAULT, *(ROOT / name for name in named), *root])
    assert named[-1].endswith(path.name)
    if "suite" in yaml.safe_load(text):  # others add methods to the experiment they go on top of
        assert config.suite.name == path.stem
        assert config.results != load_config(DEFAULT).results


def test_every_method_exists_with_and_without_guidance():
    names = method_names()
    assert names[0] == "inclora"
    assert len(names) >= 9
    assert set(METHOD_NAMES) == {*names, *(f"{name}-ivg" for name in names)}


def test_every_method_is_implemented():
    from anamnesis.training.build import method_class
    from anamnesis.training.method import Method

    classes = {name: method_class(name) for name in method_names()}
    assert all(issubclass(made, Method) for made in classes.values())
    assert classes["inclora"] is Method
    assert len(set(classes.values())) > 5


def test_import_stays_light():
    heavy = "{'torch', 'pandas', 'transformers', 'numpy'}"
    code = f"import sys, anamnesis.config; print(sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "workflow")}
    )
    assert done.stdout.strip() == "[]"
