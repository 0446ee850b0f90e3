"""What all rules share: the checked configuration, paths, digests of code, and the lists the targets are made of."""

import os
import sys
from functools import lru_cache

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(workflow.basedir) / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

from anamnesis.core.artifacts import check_writable
from anamnesis.core.computer import limits
from anamnesis.estimate.demands import Demands
from anamnesis.core.devices import present
from anamnesis.config.analysed import analysed, has_latent_tasks
from anamnesis.training.guidance_settings import control_tasks
from anamnesis.config.load import config_section, load_config
from anamnesis.core.names import GUIDED_SUFFIX
from anamnesis.training.tuning_settings import tuning_tasks
from anamnesis.config.variants import (
    chains,
    flashback_tasks,
    is_sum_of_adapters,
    paired_comparisons,
    resolve,
    variant_comparisons,
)
from anamnesis.data.catalogue import DEFAULT_ANSWER, look_up
from anamnesis.data.places import PINS, find_task
from anamnesis.core.digest import CodeDigests
from anamnesis.core.environment import ignored_variables
from anamnesis.core.errors import UserError
from anamnesis.training.slices import module_name
from anamnesis.core.integrity import check_dates, check_results
from anamnesis.core.recovery import (
    announce_scheduler,
    claim_folder,
    hold_folder,
    mend_metadata,
    remove_locks,
    superseded,
)
from snakemake.exceptions import WorkflowError

announce_scheduler()
if not workflow.is_main_process and superseded(Path(".snakemake")):
    raise WorkflowError("another run was started in this folder since this job was submitted: the job ends")

try:
    CONFIG = load_config(config)
    check_writable(CONFIG.results)
except UserError as error:
    raise WorkflowError(f"configuration: {error}") from None


SETTINGS = CONFIG.model_dump(mode="json")
INTERVALS = config_section(CONFIG, "statistics.bootstrap_resamples", "statistics.confidence")["statistics"]
# How and where a model is loaded.
MODEL_PLACEMENT = config_section(CONFIG, "model.dtype", "model.device", "model.gpus")["model"]
ENVIRONMENT = str(Path(workflow.basedir) / "envs" / "anamnesis.yaml")

RESULTS = Path(CONFIG.results)
PREPARED = RESULTS / "models" / CONFIG.model.name
MODEL = RESULTS / CONFIG.model.name
TUNED = MODEL / "tuned"
# The model before training, which all rules but prepare_model and tune_model start from.
SNAPSHOT = TUNED / "model" if CONFIG.tuning.enabled else PREPARED
TUNING_TASKS = tuning_tasks(CONFIG)
BASE_NAME = f"{CONFIG.model.name}, tuned ({SNAPSHOT})" if CONFIG.tuning.enabled else CONFIG.model.name
DEMANDS = Demands(CONFIG, SNAPSHOT)
# Where not everything can run at once, what most others wait for comes first: a chain of stages that is left for the
# end keeps one core busy while the others idle. Evaluations fill the rest, and what is short and nothing waits for
# (interventions, figures) the gaps that they leave at the end.
# One seed of all methods is complete before the next begins, so that the first table is there early.
LATER = 4 * len(CONFIG.training.seeds)
PRIORITY = {"model": LATER + 4, "vectors": LATER + 3, "first table": LATER}
TASKS = RESULTS / "tasks"
VECTORS = MODEL / "vectors"
HEADS = VECTORS / "heads.parquet"
SUITE = MODEL / CONFIG.suite.name
STAGE = SUITE / "{method}" / "order{order}" / "seed{seed}" / "stage{stage}"
BASE = SUITE / "base" / "stage0"
FIGURES = SUITE / "figures"
ANSWER_TABLES = [SUITE / f"answer_{name}.csv" for name in ("changes", "shares", "counts")]
LOGS = RESULTS / "logs"
BENCHMARKS = RESULTS / "benchmarks"
REFERENCE = Path(workflow.basedir) / "workflow" / "reference" / "paper_table1.csv"

TRAIN_TASKS = list(CONFIG.suite.orders[0])
ROLES = dict.fromkeys(TRAIN_TASKS, "train_task") | dict.fromkeys(CONFIG.suite.held_out, "held_out")
RANK_TASKS = list(CONFIG.vectors.tasks or TRAIN_TASKS)
VECTOR_TASKS = list(dict.fromkeys([*ROLES, *RANK_TASKS, *CONFIG.interventions.sets]))
FLASHBACK_TASKS = flashback_tasks(CONFIG)

ANALYSED = analysed(CONFIG)
# Those that only analyses ask for join the others once they are there.
INTERVENED = [
    *CONFIG.interventions.sets,
    *(name for name in ANALYSED.interventions if os.path.exists(VECTORS / name / "interventions.parquet")),
]


def data_files(task):
    """The user's files that a task is read from; none for hub and built-in tasks."""
    return [str(file) for file in find_task(task, SETTINGS["data"]).files]


def prepare_run(folder):
    """Before Snakemake looks at any file: no other run is at work here, and what dead ones have left does not count.

    A plan (a dry run, a graph) changes no results and may be made beside a run.
    """
    planned = workflow.output_settings.dryrun or not (
        workflow.resource_settings.cores or workflow.resource_settings.nodes
    )
    try:
        lock = hold_folder(folder)
        if lock and remove_locks(folder):
            logger.info("An earlier run here was killed: what it had not finished is made again.")
        if not planned:
            used = {*VECTOR_TASKS, *FLASHBACK_TASKS, *TUNING_TASKS, *CONFIG.data.tasks}
            check_dates(file for task in used for file in data_files(task))
            check_dates(CONFIG.statistics.pool)
        if lock and not planned:
            for line in (*mend_metadata(folder), *check_results(CONFIG.results)):
                logger.warning(line)
            return lock
    except (UserError, OSError) as error:
        if not planned:
            raise WorkflowError(f"the run cannot begin: {error}") from None


def limit_jobs():
    """Jobs here get together no more than this computer has, where --resources does not say how much.

    One that asks for more than the limit gets the limit: it runs alone. On a cluster, for which Snakemake wants to
    know the number of its jobs (``nodes``), the cluster sees to that.
    """
    if workflow.resource_settings.nodes is None:
        for name, amount in limits().items():
            workflow.global_resources.setdefault(name, amount)
    elif CONFIG.model.device == "auto" and not present():
        logger.warning(
            "model.device = auto and this computer has no GPU: jobs on the cluster ask for none, and for the hours of a "
            "CPU; set model.device to cuda, or to cpu if that is meant"
        )


def warn_of_tuned_chat_model():
    """A model with a chat template follows instructions already; tuning changes what is studied."""
    if CONFIG.tuning.enabled and CONFIG.prompts.chat_template:
        logger.warning(
            "tuning.enabled = true and prompts.chat_template = true: this chat model is tuned before the experiment; "
            "set tuning.enabled to false to start from it as it is"
        )


def warn_of_environment():
    """Once for a run; the log of each job says it too."""
    if ignored := ignored_variables():
        logger.warning(f"ignored by all jobs, as only the configuration has a say in a result: {', '.join(ignored)}")


def lift_default_limit():
    """Jobs are looked for when one ends, not every second as well.

    The limit of 100 submissions a second, which Snakemake has by default, makes it look once more per second for every
    job that has ended while others were ready (snakemake 9.27): work that grows with the run, on a core that jobs want.
    A limit of the user's own stays, and so does the default where jobs are sampled, which counts on being called again.
    """
    settings = workflow.scheduling_settings
    limit = settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1) and not settings.subsample:
        workflow.scheduler.job_rate_limiter = None


if workflow.is_main_process:
    LOCK = prepare_run(Path(".snakemake"))  # held until the process ends
    limit_jobs()
    warn_of_tuned_chat_model()
    warn_of_environment()

RESOLVED = {name: resolve(CONFIG, name) for name in CONFIG.training.methods}
CHAINS = chains(CONFIG)
COMPARISONS = variant_comparisons(CONFIG)
COMPARED = paired_comparisons(CONFIG)
TWINS = [name for name in CONFIG.training.methods if name + GUIDED_SUFFIX in CONFIG.training.methods]
# What vectors give back is measured on sets of the suite, and in models whose weights do not depend on the prompt.
RECOVERED_SETS = [name for name in CONFIG.interventions.sets if name in ROLES]
RECOVERED = [
    {"method": method, "order": order}
    for method, order in dict.fromkeys((chain["method"], chain["order"]) for chain in CHAINS)
    if RECOVERED_SETS and not has_latent_tasks(CONFIG, method)
]


onstart:
    claim_folder(Path(".snakemake"))
    lift_default_limit()


wildcard_constraints:
    task="[^/]+",
    method="|".join(CONFIG.training.methods),
    order=r"\d+",
    seed=r"\d+",
    stage=r"\d+",


scattergather:
    sweep=CONFIG.sweep.shards,


CODE = CodeDigests(Path(workflow.basedir) / "workflow" / "scripts", Path(".snakemake") / "code.json")


def script_digest(name):
    """Digest of a script and of all library code it reaches: editing either makes the rule's results stale."""
    return CODE.of(name)


def called_digest(script, *calls):
    """The same of a generic script, with the functions that it is told to call, "module:function"."""
    return CODE.of(script, *(call.split(":")[0] for call in calls))


def method_digest(script, part, *calls):
    """The same, by chain, of a script that loads a file of the chain's method: other methods do not count."""
    called = [call.split(":")[0] for call in calls]
    return lambda wildcards: CODE.of(script, *called, module_name(RESOLVED[wildcards.method].base, part))


def data_settings(wildcards):
    """The part of the data section that one task depends on."""
    section = dict(SETTINGS["data"])
    own = section.pop("task_examples").get(wildcards.task)
    section["train_examples"] = own or section["train_examples"]
    section["tasks"] = {
        name: {key: value for key, value in task.items() if key not in ("max_new_tokens", "metric")}
        for name, task in section["tasks"].items()
        if name == wildcards.task
    }
    if section["tasks"] or not data_file(wildcards):
        section["root"] = None
    return section


def data_file(wildcards):
    """The files a task is read from, so that editing them makes the task stale; none for hub and built-in tasks."""
    files = data_files(wildcards.task)
    return {"file": files} if files else {}


@lru_cache
def published(task):
    """The catalogue's entry of a task that is read from a folder or a hub; None for others."""
    return look_up(task) if find_task(task, SETTINGS["data"]).kind in ("folder", "hub") else None


def published_parts(wildcards):
    """What a prepared task takes from its entry in the catalogue, so that editing that part makes the task stale."""
    entry = published(wildcards.task)
    return entry.prepared_from() if entry else None


def answer_length(task):
    """The longest generated answer of a task, in tokens."""
    own, entry = CONFIG.data.tasks.get(task), published(task)
    if own and own.max_new_tokens:
        return own.max_new_tokens
    return CONFIG.evaluation.max_new_tokens or (entry.max_answer if entry else DEFAULT_ANSWER)


def published_metric(task):
    """The metric of a published set; None for other tasks."""
    entry = published(task)
    return entry.metric_of(CONFIG.evaluation.metrics) if entry else None


def metric(task):
    """The metric that scores a task; None: accuracy or, for what is generated, exact match."""
    own = CONFIG.data.tasks.get(task)
    return own.metric if own else published_metric(task)


def by_seed(kind):
    """Priority of training or evaluation: that of an earlier seed first."""
    own = {"training": 2, "evaluation": 1}[kind]

    def priority(wildcards):
        seeds, seed = CONFIG.training.seeds, int(wildcards.seed)
        place = seeds.index(seed) if seed in seeds else len(seeds)  # others can be asked for by path
        return LATER - 4 * place + own

    return priority


def trained_task(wildcards, stage=None):
    """The task learnt in a stage (1, 2, ...) of an order."""
    return CONFIG.suite.orders[int(wildcards.order) - 1][int(stage or wildcards.stage) - 1]


def adapters_upto(wildcards, last):
    """The adapters that make the model after stage ``last`` of a chain: all so far, or the last one alone."""
    first = 1 if RESOLVED[wildcards["method"]].needs.adapter == "new" else max(last, 1)
    return [
        str(STAGE / "adapter").format(**{**wildcards, "stage": stage}) for stage in range(first, last + 1)
    ]


def stage_inputs(wildcards):
    """What a training stage needs: its task, the adapters before it, earlier tasks, heads and vectors where used."""
    task, method = trained_task(wildcards), RESOLVED[wildcards.method]
    inputs = {"task": TASKS / f"{task}.parquet"}
    earlier = adapters_upto(wildcards, int(wildcards.stage) - 1)
    if earlier and method.needs.adapter != "alone":
        inputs["earlier"] = earlier
    learnt = [trained_task(wildcards, s) for s in range(1, int(wildcards.stage))]
    if past := method.past_tasks(learnt, task):
        inputs["past"] = [TASKS / f"{name}.parquet" for name in past]
    if method.guidance or method.needs.vector:
        inputs["heads"] = HEADS
    if method.needs.vector:
        inputs["vector"] = VECTORS / task / "instruction_vector.safetensors"
    if method.guidance:
        inputs["mean"] = VECTORS / task / "mean_activations.safetensors"
        if method.guidance["vectors_from"] == "current":
            inputs["prompt_table"] = VECTORS / task / "prompts.parquet"
        # in the configuration's order, whatever the chain's: their average is to be the same in all
        if means := control_tasks(method.guidance["control"], task, TRAIN_TASKS):
            inputs["task_means"] = [VECTORS / name / "mean_activations.safetensors" for name in means]
    return inputs


def answered_means(wildcards):
    """Mean activations of all tasks of a chain that needs their vectors, looked at before its first stage."""
    method = RESOLVED[wildcards.method]
    if int(wildcards.stage) > 1 or not (method.guidance or method.needs.vector):
        return []
    if CONFIG.vectors.never_answered == "average":
        return []
    order = CONFIG.suite.orders[int(wildcards.order) - 1]
    return [VECTORS / name / "mean_activations.safetensors" for name in order]


def chain_evaluations(chain):
    """Evaluations of the stages 0 to T of a chain; stage 0 is the same for all."""
    stages = range(1, len(TRAIN_TASKS) + 1)
    return [
        BASE / "evaluation.parquet",
        *(str(STAGE / "evaluation.parquet").format(**chain, stage=s) for s in stages),
    ]


def of_own_chains(_):
    """No file, and an error where this run trains nothing that could be looked into."""
    if CHAINS:
        return []
    raise WorkflowError(
        "training.seeds = []: analyses look into chains of this run; list one or more integers >= 0"
    )


def accuracy_files():
    return [str(STAGE.parent / "accuracy.parquet").format(**chain) for chain in CHAINS]


def vector_files():
    return [VECTORS / task / "instruction_vector.safetensors" for task in VECTOR_TASKS]


def recovery_files():
    """Accuracy with vectors after the last stage, a file for each method and order."""
    return [
        str(SUITE / "{method}" / "order{order}" / "recovery.parquet").format(**part) for part in RECOVERED
    ]


def interventions_of(tasks):
    return [VECTORS / task / "interventions.parquet" for task in tasks]


def figure_files(names):
    return expand(FIGURES / "{name}.{kind}", name=names, kind=["pdf", "png", "csv"])


def record_files():
    """The provenance records that the report shows: one per kind of work, and every stage of training and evaluation."""
    stages = range(1, len(TRAIN_TASKS) + 1)
    return [
        RESULTS / "models" / f"{CONFIG.model.name}.json",
        *[TUNED / "tuning.json"] * CONFIG.tuning.enabled,
        VECTORS / "heads.json",
        BASE / "evaluation.json",
        *(
            str(STAGE / f"{kind}.json").format(**c, stage=s)
            for c in CHAINS
            for s in stages
            for kind in ("training", "evaluation")
        ),
        SUITE / "table1.json",
    ]
