"""What the registries of figures and analyses define for a configuration, without a workflow."""

from __future__ import annotations

from pathlib import Path

from anamnesis.analyses.registry import Analysis, analyses
from anamnesis.config.analysed import analysed, held_out_sets, paraphrased
from anamnesis.config.load import config_section, load_config
from anamnesis.config.models import Config
from anamnesis.config.variants import chains, paired_comparisons, resolve, variant_comparisons
from anamnesis.core.run import Run

ROOT = Path(__file__).resolve().parents[1]
SUITE = Path("suite")


def run_of(config: Config) -> Run:
    """As ``rules/analyses.smk`` makes it, in folders of no experiment."""
    roles = dict.fromkeys(config.suite.orders[0], "train_task")
    return Run(
        config=config,
        settings=config.model_dump(mode="json"),
        model=config_section(config, "model.dtype")["model"],
        intervals=config_section(config, "statistics.confidence", "statistics.bootstrap_resamples")[
            "statistics"
        ],
        snapshot=Path("snapshot"),
        tasks=Path("tasks"),
        vectors=Path("vectors"),
        heads=Path("vectors/heads.parquet"),
        suite=SUITE,
        stage=SUITE / "{method}" / "order{order}" / "seed{seed}" / "stage{stage}",
        base=SUITE / "base",
        reference=ROOT / "workflow" / "reference",
        roles=roles | dict.fromkeys(config.suite.held_out, "held_out"),
        chains=chains(config),
        resolved={name: resolve(config, name) for name in config.training.methods},
        summed=config.training.methods,
        followed=analysed(config),
        held_out=held_out_sets(config),
        paraphrases=paraphrased(config),
        twins=config.training.methods[:1],
        comparisons=variant_comparisons(config),
        compared=paired_comparisons(config),
        interventions=[Path("vectors/antonym/interventions.parquet")],
        recovered=[SUITE / "recovery.parquet"],
        recovered_interventions=[Path("vectors/antonym/interventions.parquet")],
        adapters_upto=lambda wildcards, last: [f"adapter{stage}" for stage in range(1, last + 1)],
        stage_inputs=lambda wildcards: {},
        training_params=dict,
        trained_task=lambda wildcards, stage=None: config.suite.orders[0][0],
        answer_length=lambda task: 8,
        metric=lambda task: None,
    )


def registered(*files: str) -> list[Analysis]:
    """The analyses of config.yaml with further files of ``workflow/experiments`` on top."""
    experiments = ROOT / "workflow" / "experiments"
    return analyses(run_of(load_config([ROOT / "config.yaml", *(experiments / file for file in files)])))
