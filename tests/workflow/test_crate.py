"""The RO-Crate of a finished run: it can be read again, every file is there, and is what it says."""

import hashlib
import json
import shutil

import pytest
from rocrate.rocrate import ROCrate

from anamnesis.commands.crate import METADATA, main
from runs import SUITE, TABLE, stage

RESULTS = "results"


@pytest.fixture(scope="module")
def described(whole, tmp_path_factory):
    """A copy of the run with its description."""
    run = whole.copy(tmp_path_factory.mktemp("described") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.folder)
        licence = "https://creativecommons.org/licenses/by/4.0/"
        assert main(["experiment.yaml", "--license", licence, "--author", "Ada Lovelace"]) == 0
    return run


@pytest.fixture(scope="module")
def graph(described):
    document = json.loads((described.folder / RESULTS / METADATA).read_text(encoding="utf-8"))
    entities = document["@graph"]
    assert len({entity["@id"] for entity in entities}) == len(entities)
    return {entity["@id"]: entity for entity in entities}


def test_a_reader_of_crates_reads_it(described):
    crate = ROCrate(described.folder / RESULTS)
    assert crate.mainEntity.id == "ro-crate/Snakefile"
    assert str(crate.license.id if hasattr(crate.license, "id") else crate.license).endswith("/by/4.0/")
    assert crate.get("#run")["instrument"].id == "ro-crate/Snakefile"


def test_every_file_is_there_and_is_what_it_says(described, graph):
    files = [entity for entity in graph.values() if "File" in entity["@type"]]
    assert len(files) > 60
    for entity in files:
        content = (described.folder / RESULTS / entity["@id"]).read_bytes()
        if "sha256" in entity:
            assert hashlib.sha256(content).hexdigest() == entity["sha256"]
            assert len(content) == int(entity["contentSize"])
    assert len([entity for entity in files if "sha256" not in entity]) == 2  # workflow and configuration


def test_every_reference_leads_to_an_entity(graph):
    def references(value):
        if isinstance(value, dict):
            yield from [value["@id"]] if set(value) == {"@id"} else references(list(value.values()))
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    outside = {name for name in references(list(graph.values())) if name not in graph}
    assert all(name.startswith("https://") for name in outside), outside


def test_it_names_what_a_reader_looks_for(described, graph):
    run, root = graph["#run"], graph["./"]
    results = {each["@id"] for each in run["result"]}
    adapter = stage("inclora-ivg", 2) / "adapter" / "adapter_model.safetensors"
    for file in (TABLE, SUITE / "report.html", SUITE / "figures" / "summary.csv", adapter):
        assert str(file.relative_to(RESULTS)) in results
    assert run["startTime"] < run["endTime"] == root["datePublished"]
    objects = {each["@id"] for each in run["object"]}
    assert {"ro-crate/config.yaml", "#model"} <= objects
    assert graph["#model"]["name"].startswith("path:")
    assert any(graph[each]["name"] == "paper_table1.csv" for each in objects)
    software = [graph[each["@id"]] for each in graph["ro-crate/Snakefile"]["softwareRequirements"]]
    assert {"torch", "snakemake", "python"} <= {each["name"] for each in software}
    assert graph[root["author"][0]["@id"]]["name"] == "Ada Lovelace"


def test_a_result_that_has_changed_and_a_run_without_end_are_refused(whole, tmp_path, monkeypatch, capsys):
    run = whole.copy(tmp_path / "run")
    monkeypatch.chdir(run.folder)
    (run.folder / TABLE).write_text("better")
    assert main(["experiment.yaml"]) == 1
    assert "table1.md is not what was written (it has 6 bytes" in capsys.readouterr().err
    shutil.rmtree(run.folder / SUITE)
    assert main(["experiment.yaml"]) == 1
    assert "report.html is not there: finish the run" in capsys.readouterr().err
