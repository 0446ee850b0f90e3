"""The copies of the configuration agree: its model, its schema, the commented file and the experiments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from anamnesis.commands import write_config
from anamnesis.config import METHOD_NAMES, Config, load_config
from anamnesis.data.catalogue import catalogue, sequences
from anamnesis.data.settings import UserTask
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


def test_written_files_are_in_step(capsys):
    assert write_config.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["config.yaml", "workflow/schemas/config.schema.json", "docs/reference/configuration.md"]
)
def test_a_file_that_differs_is_named_and_written_again(name, tmp_path, monkeypatch, capsys):
    before = write_config.written()
    for place, text in before.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text, encoding="utf-8")
    monkeypatch.setattr(write_config, "REPOSITORY", tmp_path)
    changed = tmp_path / name
    changed.write_text(before[name].replace("Passes over the training examples", "Epochs"), encoding="utf-8")
    assert write_config.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{name} differs: run python -m anamnesis.commands.write_config"
    ]
    assert write_config.main([]) == 0
    assert capsys.readouterr().out == f"wrote {name}\n"
    assert changed.read_text(encoding="utf-8") == before[name]
    assert write_config.main(["--chek"]) == 2


def test_the_default_experiment_is_what_config_yaml_has(tmp_path, monkeypatch):
    """Its tasks are in no other place; all else in the file follows the settings."""
    given = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    given["suite"] |= {"name": "mine", "orders": [["plural"], "func"]}
    given["training"]["epochs"] = 7
    shown = yaml.safe_load(write_config.config_text(given))
    assert shown["suite"] == given["suite"]
    assert shown["training"]["epochs"] == Config.model_fields["training"].annotation().epochs


def test_comments_are_as_wide_as_the_file_and_keep_its_lists():
    lines = DEFAULT.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= write_config.WIDTH
    assert "  #   hf:<id>@<revision>          the Hugging Face hub" in lines
    assert not any(line.endswith((">=", "<=", "=")) for line in lines if "#" in line)


def test_the_page_says_of_each_key_what_it_may_be_and_its_default():
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    assert "- **`training.epochs`**: an integer >= 1; default `1`. Passes over the training examples" in page
    assert "- **`suite.held_out`**: a list with at least 1 of: text; required. Tasks that no stage" in page
    assert "- **`data.tasks.<name>.instruction`**: text, not empty; required." in page
    keys = set(re.findall(r"^- \*\*`(.*?)`\*\*", page, re.MULTILINE))
    sections = {key.rsplit(".", 1)[0] for key in dotted_keys(Config) if "." in key}
    assert dotted_keys(Config) - sections <= keys
    prose = [re.sub("`.*?`", "", line) for line in page.splitlines() if not line.startswith("      ")]
    assert not [line for line in prose if "<" in line]  # which would be read as HTML


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
    """A key by its description, a section by the docstring of its class at the least."""
    models = [Config, UserTask]
    for model in models:
        for name, field in model.model_fields.items():
            section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert field.description or (section and field.annotation.__doc__), f"{model.__name__}.{name}"
            if section:
                models.append(field.annotation)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder of benchmarks, of which only the names of the files are looked at."""
    made = tmp_path_factory.mktemp("benchmarks")
    for name in {*catalogue(), *(task for sequence in sequences().values() for task in sequence)}:
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


def test_reading_the_configuration_stays_light():
    heavy = "{'torch', 'pandas', 'transformers', 'numpy'}"
    code = f"import sys, anamnesis.config; anamnesis.config.load_config({str(DEFAULT)!r}); "
    command = [sys.executable, "-c", code + f"print(sorted({heavy} & set(sys.modules)))"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT / "workflow")}
    )
    assert done.stdout.strip() == "[]"
