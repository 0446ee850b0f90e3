"""What all rules share: the checked configuration, the start of a run, digests of code, and functions for their inputs."""

import sys

if (ROOT / "workflow" / "anamnesis").is_dir():  # a checkout; a wheel has put these rules into the library
    sys.path.insert(0, str(ROOT / "workflow"))
    # An installed copy may be there already, for the logger of Snakemake: the rules go by what lies next to them.
    for name in [name for name in sys.modules if name.partition(".")[0] == "anamnesis"]:
        if not str(sys.modules[name].__file__).startswith(f"{ROOT}/"):
            del sys.modules[name]

from anamnesis.analyses.registry import analyses, made, shown_figures
from anamnesis.config.adapted import check_adapters
from anamnesis.config.job_inputs import Experiment
from anamnesis.config.load import check_files, config_section, load_config
from anamnesis.config.named_files import check_named_files
from anamnesis.core.artifacts import check_writable
from anamnesis.core.computer import limits
from anamnesis.core.devices import present
from anamnesis.core.digest import CodeDigests
from anamnesis.core.environment import check_python, ignored_variables
from anamnesis.core.errors import UserError
from anamnesis.core.fields import expand_path
from anamnesis.core.forked_jobs import start_server
from anamnesis.core.integrity import check_dates, check_results
from anamnesis.core.processes import share_library
from anamnesis.core.recovery import (
    announce_scheduler,
    claim_folder,
    hold_folder,
    mend_metadata,
    remove_locks,
    superseded,
)
from anamnesis.core.repository import DEFAULTS
from anamnesis.estimate.demands import Demands
from anamnesis.figures.core_figures import FORGETTING, core_figures
from anamnesis.training.slices import module_name
from snakemake.path_modifier import PathModifier

share_library()
announce_scheduler()
# Jobs are planned by what is in results (sizes of models and inputs, digests), and checkpoints are no declared outputs.
if provider := workflow.storage_settings.default_storage_provider:
    raise WorkflowError(
        f"--default-storage-provider {provider}: results have to lie on a file system that this computer and all jobs see; "
        "leave the option out, set results to a folder there, and copy it when the run is done"
    )
if not workflow.is_main_process and superseded(Path(".snakemake")):
    raise WorkflowError("another run was started in this folder since this job was submitted: the job ends")

try:
    # The prefix that a module statement may give moves the results, and no files of the user.
    WRITTEN = expand_path(str(config.get("results", "results")))
    PREFIXED = workflow.modifier.path_modifier.replace_prefix(WRITTEN)
    workflow.modifier.path_modifier = PathModifier(None, None, workflow)
    check_python()
    check_files(workflow.configfiles)
    # the defaults once more: a module statement with its own configuration leaves out configfile
    CONFIG = load_config([DEFAULTS, config, {"results": PREFIXED}])
    check_writable(CONFIG.results)
    if workflow.is_main_process:
        check_named_files(CONFIG)
    EXPERIMENT = Experiment(CONFIG)
    # of a model that is not prepared yet, the first job after its preparation checks them
    check_adapters(CONFIG, Path(f"{EXPERIMENT.places.prepared}.json"))
except UserError as error:
    raise WorkflowError(f"configuration: {error}") from None


PLACES, TASKS, SETTINGS, CHAINS = EXPERIMENT.places, EXPERIMENT.tasks, EXPERIMENT.settings, EXPERIMENT.chains
LOGS = PLACES.logs
ENVIRONMENT = str(ROOT / "envs" / "anamnesis.yaml")
DEMANDS = Demands(CONFIG, PLACES.snapshot)
# Where not everything can run at once, what most others wait for comes first: a chain of stages that is left for the
# end keeps one core busy while the others idle. Evaluations fill the rest, and what is short and nothing waits for
# (interventions, figures) the gaps that they leave at the end.
# One seed of all methods is complete before the next begins, so that the first table is there early.
LATER = 4 * len(CONFIG.training.seeds)
PRIORITY = {"model": LATER + 5, "tasks": LATER + 4, "vectors": LATER + 3, "first table": LATER}


def by_seed(own):
    """Priority of training (2) or evaluation (1): that of an earlier seed first."""

    def priority(wildcards):
        seeds, seed = CONFIG.training.seeds, int(wildcards.seed)
        place = seeds.index(seed) if seed in seeds else len(seeds)  # others can be asked for by path
        return LATER - 4 * place + own

    return priority


def prepare_run(folder):
    """Before Snakemake looks at any file: no other run is at work here, and what dead ones have left does not count.

    A plan (a dry run, a graph) changes no results and may be made during a run.
    """
    planned = workflow.output_settings.dryrun or not (
        workflow.resource_settings.cores or workflow.resource_settings.nodes
    )
    try:
        lock = hold_folder(folder)
        if lock and remove_locks(folder):
            logger.info("An earlier run here was killed: what it had not finished is made again.")
        if planned:
            return lock and lock.close()
        check_dates(file for task in EXPERIMENT.used_tasks for file in TASKS.files(task))
        check_dates(CONFIG.statistics.pool)
        claim_folder(folder)
        if lock:
            for line in (*mend_metadata(folder), *check_results(CONFIG.results)):
                logger.warning(line)
        if workflow.resource_settings.nodes is None:  # jobs run here
            start_server()
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


def warn_of_lost_tables():
    """An experiment of the same name with other methods writes over tables that may have cost days."""
    if lost := EXPERIMENT.methods_to_lose():
        logger.warning(
            f"the tables, figures and report in {PLACES.experiment} have also {', '.join(lost)}, and are written anew without: "
            "set experiment to a name of its own to keep both"
        )


def warn_of_environment():
    """Once for a run; the log of each job says it too."""
    if ignored := ignored_variables():
        logger.warning(
            f"ignored by all jobs, as only the configuration has a say in a result: {', '.join(ignored)}"
        )


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


# There is no scheduler before.
onstart:
    lift_default_limit()


# The rest while the rules are read, as Snakemake does not call the onstart of a module.
if workflow.is_main_process:
    prepare_run(Path(".snakemake"))
    limit_jobs()
    warn_of_tuned_chat_model()
    warn_of_lost_tables()
    warn_of_environment()


wildcard_constraints:
    task="[^/]+",
    method="|".join(CONFIG.training.methods),
    order="|".join(str(number + 1) for number, _ in enumerate(CONFIG.suite.orders)),
    seed=r"\d+",
    stage="|".join(str(number + 1) for number, _ in enumerate(EXPERIMENT.train_tasks)),


scattergather:
    sweep=CONFIG.sweep.shards,


CODE = CodeDigests(ROOT / "workflow" / "scripts", Path(".snakemake") / "code.json")


def called_digest(script, *calls):
    """Digest of a script, of the functions it is told to call ("module:function"), and of all library code they reach:
    editing any of it makes the rule's results stale.
    """
    return CODE.of(script, *(call.split(":")[0] for call in calls))


def method_digest(script, part, *calls):
    """The same, by chain, of a script that loads a file of the chain's method: other methods do not count."""
    called = [call.split(":")[0] for call in calls]
    return lambda wildcards: CODE.of(
        script, *called, module_name(EXPERIMENT.resolved[wildcards.method].base, part)
    )


RUN = EXPERIMENT.run()
CORE_FIGURES, ANALYSES = core_figures(RUN), analyses(RUN)
MADE, SHOWN_FIGURES = made(ANALYSES), shown_figures(RUN, ANALYSES)


def figure_files(figures):
    names = [figure.name for figure in figures if figure.shown]
    return expand(PLACES.figures / "{name}.{kind}", name=names, kind=["pdf", "png", "csv"])


def figure_outputs(figure):
    """The texts that belong to a figure."""
    return [f"{PLACES.figures / figure.name}{ending}" for ending in figure.texts]


def analysis_results(analysis):
    """What the report shows of an analysis, besides its figures."""
    texts = [text for figure in analysis.figures for text in figure_outputs(figure)]
    return [*map(str, analysis.results), *texts]


def analysis_files(analysis):
    """What the target ``analyses`` makes of an analysis."""
    return [*analysis.results, *analysis.further, *figure_files(analysis.figures)] if analysis.asked else []


def of_own_chains(_):
    """No file, and an error where this run trains nothing that could be looked into."""
    if CHAINS:
        return []
    raise WorkflowError(
        "training.seeds = []: analyses look into chains of this run; list one or more integers >= 0"
    )
