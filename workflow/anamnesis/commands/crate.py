"""Describe a finished experiment as an RO-Crate.

All of it is in the notes and records that jobs leave next to their results. ``ro-crate-metadata.json`` lies
in the folder ``results``, and what the run was made with in its folder ``ro-crate``. Profile: Workflow Run
Crate 0.5.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from mimetypes import guess_type
from pathlib import Path
from typing import Any

import yaml

from anamnesis.commands import reported
from anamnesis.commands.finished_run import Run, finished_run
from anamnesis.config.load import load_experiment
from anamnesis.config.models import Config
from anamnesis.core.artifacts import read_json, write_json, write_text
from anamnesis.core.repository import REPOSITORY

METADATA = "ro-crate-metadata.json"
MADE_WITH = "ro-crate"  # the folder of the Snakefile and the configuration, in the crate
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
SOFTWARE_LICENCE = "https://spdx.org/licenses/Apache-2.0"
NO_LICENCE = "No licence is stated: ask the authors before you use these results"
FORMATS = {
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/octet-stream",
    ".yaml": "application/yaml",
    ".md": "text/markdown",
    "": "text/plain",
}

Entity = dict[str, Any]


# ---------------------------------------------------------------- entities


def metadata(run: Run, made_with: Sequence[Entity], licence: str | None, authors: Sequence[str]) -> Entity:
    """The JSON-LD document. ``made_with``: the workflow and the configuration, as entities; ``licence`` and
    ``authors`` are those of the results.
    """
    results, inputs = list(_results(run)), list(_inputs(run))
    people = [_named(f"#author-{number}", "Person", name) for number, name in enumerate(authors, start=1)]
    software = [
        _named(f"#software-{name}-{version}", "SoftwareApplication", name, version=version)
        for name, versions in run.software().items()
        for version in sorted(versions)
    ]
    workflow, configuration = made_with
    workflow |= {"softwareRequirements": _references(software), "version": ", ".join(run.commits())}
    root = _root(run, [*made_with, *results], licence)
    action = _action(run, workflow, [configuration, *inputs], results)
    if people:
        root["author"] = action["agent"] = _references(people)
    about = [_named(url, "CreativeWork", url) for url in (SOFTWARE_LICENCE, licence) if url]
    about += [
        _named(url, "CreativeWork", name, version=url.rpartition("/")[2]) for url, name in PROFILES.items()
    ]
    about.append(_named(SNAKEMAKE, "ComputerLanguage", "Snakemake", url="https://snakemake.readthedocs.io"))
    graph = [_descriptor(), root, *made_with, action, *inputs, *results, *people, *software, *about]
    return {"@context": CONTEXT, "@graph": graph}


def _descriptor() -> Entity:
    kept = [{"@id": CRATE}, {"@id": list(PROFILES)[-1]}]
    return {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": kept}


def _root(run: Run, parts: Sequence[Entity], licence: str | None) -> Entity:
    suite, model = run.config.suite.name, run.config.model.name
    inside = {part["@id"] for entity in parts for part in entity.get("hasPart", ())}
    return _named(
        "./", "Dataset", f"Anamnesis: {suite} on {model}",
        description=f"What {model} forgets while it is fine-tuned on the tasks of {suite}: tables, figures, "
        "report, adapters, vectors, and the records of all jobs",
        datePublished=run.ended(), license={"@id": licence} if licence else NO_LICENCE,
        mainEntity=_reference(parts[0]), mentions={"@id": "#run"},
        conformsTo=[{"@id": profile} for profile in PROFILES],
        hasPart=_references([entity for entity in parts if entity["@id"] not in inside]),
    )  # fmt: skip


def _action(run: Run, workflow: Entity, inputs: Sequence[Entity], results: Sequence[Entity]) -> Entity:
    """The run as a whole; its jobs are in the notes."""
    files = [entity for entity in results if entity["@type"] == "File"]
    return _named(
        "#run", "CreateAction", f"Run of {run.config.suite.name} on {run.config.model.name}",
        description=f"{len(run.notes)} jobs, run by Snakemake", instrument=_reference(workflow),
        startTime=run.began(), endTime=run.ended(), actionStatus="http://schema.org/CompletedActionStatus",
        object=_references(inputs), result=_references(files),
    )  # fmt: skip


def _results(run: Run) -> Iterator[Entity]:
    """A File for each file that jobs have written, a Dataset for each folder."""
    for path, note in sorted(run.written.items()):
        place = Path(path).relative_to(run.places.results).as_posix()
        states = note.written[path]
        files = [
            _file(place if name == "." else f"{place}/{name}", *state[:2]) for name, state in states.items()
        ]
        if "." not in states:
            yield _named(f"{place}/", "Dataset", place, hasPart=_references(files))
        yield from files


def _inputs(run: Run) -> Iterator[Entity]:
    """What came from elsewhere: the model, files of the user, tables that belong to the workflow."""
    record = f"{run.places.prepared}.json"
    if record in run.written:
        source = read_json(record)
        yield _named("#model", "CreativeWork", source["source"], sha256=source["sha256"])
    for path, (size, digest, _) in run.inputs.items():
        yield _named(
            f"#input-{digest[:16]}", "CreativeWork", Path(path).name, sha256=digest, contentSize=str(size)
        )


def _file(place: str, size: int, digest: str) -> Entity:
    suffix = Path(place).suffix
    kind = FORMATS.get(suffix) or guess_type(place)[0] or "application/octet-stream"
    return _named(place, "File", Path(place).name, sha256=digest, contentSize=str(size), encodingFormat=kind)


def _named(key: str, kind: str, name: str, **properties: Any) -> Entity:
    return {"@id": key, "@type": kind, "name": name, **properties}


def _reference(entity: Entity) -> Entity:
    return {"@id": entity["@id"]}


def _references(entities: Sequence[Entity]) -> list[Entity]:
    return [_reference(entity) for entity in entities]


# ---------------------------------------------------------------- the command


def write_crate(config: Config, licence: str | None = None, authors: Sequence[str] = ()) -> Path:
    """Write the description and return its path."""
    run = finished_run(config)
    folder = run.places.results / MADE_WITH
    folder.mkdir(exist_ok=True)
    write_text(folder / "Snakefile", (REPOSITORY / "Snakefile").read_text(encoding="utf-8"))
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(folder / "config.yaml", settings)
    workflow, configuration = (f"{MADE_WITH}/{name}" for name in ("Snakefile", "config.yaml"))
    made_with = [
        {
            "@id": workflow,
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": "Anamnesis",
            "license": {"@id": SOFTWARE_LICENCE},
            "programmingLanguage": {"@id": SNAKEMAKE},
        },
        _named(
            configuration, "File", "The configuration, with all defaults", encodingFormat=FORMATS[".yaml"]
        ),
    ]
    file = run.places.results / METADATA
    write_json(file, metadata(run, made_with, licence, authors))
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where the description is; 1 and one line of error where the run is not finished."""
    parser = argparse.ArgumentParser(prog="anamnesis crate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", nargs="*", help="files or names of experiments, later ones on top")
    parser.add_argument(
        "--license", metavar="URL", help="of the results, such as that of a Creative Commons licence"
    )
    parser.add_argument(
        "--author", action="append", default=[], metavar="NAME", help="of the results; as many as there are"
    )
    given = parser.parse_args(arguments)
    return reported(lambda: print(write_crate(load_experiment(given.config), given.license, given.author)))


if __name__ == "__main__":
    raise SystemExit(main())
