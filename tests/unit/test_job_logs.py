"""What libraries warn about is in a job's log and, where it may concern a number, at the end of a run."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from anamnesis.core.errors import UserError
from anamnesis.core.integrity import Note, note_file, states_read, write_note
from anamnesis.core.job_logs import LIBRARIES, log_to, warnings_in
from anamnesis.core.run_warnings import run_warnings
from anamnesis.report.run_facts import warned

LIBRARY = Path(__file__).parents[2] / "workflow"


@pytest.fixture
def logging_restored(monkeypatch):
    """``log_to`` changes the process it runs in, which is its own otherwise."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    levels = {name: logging.getLogger(name).level for name in ("", "anamnesis")}
    with warnings.catch_warnings():
        yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def job(tmp_path: Path, body: str, **environment: str) -> tuple[str, str]:
    """(log, terminal) of a process that logs as a job does and runs ``body``."""
    log = tmp_path / "logs" / "job.log"
    code = "from pathlib import Path\nfrom anamnesis.core.job_logs import log_to\n"
    code += f"log_to(Path({str(log)!r}), anew=True)\n{textwrap.dedent(body)}"
    surrounding = {"PYTHONPATH": str(LIBRARY), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=surrounding, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return log.read_text(encoding="utf-8"), done.stderr


def test_a_job_logs_what_all_libraries_warn_about(tmp_path):
    """Also those that print by themselves and hand nothing on, as they are from their import on; whatever
    Python is told about warnings. Its terminal has our own warnings and all errors.
    """
    names = ("accelerate", "peft", "huggingface_hub.file_download", "torch.distributed", "anamnesis.data")
    body = f"""
        import logging, warnings
        from transformers.utils import logging as transformers_logging
        transformers_logging.get_logger("transformers.trainer").warning("tokens were\\nchanged")
        import huggingface_hub
        for name in {names}:
            logging.getLogger(name).warning("said by %s", name)
        logging.getLogger("transformers.trainer").error("broken")
        warnings.warn("tied weights")
        warnings.warn("soon", DeprecationWarning)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
    """
    log, terminal = job(tmp_path, body, PYTHONWARNINGS="ignore")
    for name in (
        "accelerate",
        "peft",
        "huggingface_hub.file_download",
        "torch.distributed",
        "anamnesis.data",
    ):
        assert f"WARNING {name}: said by {name}\n" in log
    assert "WARNING transformers.trainer: tokens were changed\n" in log
    assert "UserWarning: tied weights (" in log
    assert "DeprecationWarning: soon (" in log
    assert terminal == "WARNING said by anamnesis.data\nERROR broken\n"


def test_loggers_that_are_made_later_hand_on_too(tmp_path):
    """torch gives a handler to each of dozens, which are made as it is imported."""
    body = """
        import logging, torch, torch._dynamo
        logging.getLogger("torch._dynamo").warning("\\x1b[1mslow\\x1b[0m")
        alone = logging.getLogger("tokenizers.alone")
        alone.propagate = False
        alone.warning("said by one that hands nothing on")
    """
    log, terminal = job(tmp_path, body)
    assert "WARNING torch._dynamo: slow\n" in log
    assert "WARNING tokenizers.alone: said by one that hands nothing on\n" in log
    assert not terminal


def test_a_silenced_logging_speaks_again(tmp_path, logging_restored):
    """As what runs when Python starts may leave it."""
    logging.disable()
    log_to(tmp_path / "a.log", anew=True)
    logging.getLogger("anamnesis").warning("heard")
    assert warnings_in(tmp_path / "a.log") == ["heard"]


def test_warnings_do_not_end_a_job(tmp_path):
    log, _ = job(tmp_path, "import warnings\nwarnings.warn('odd')\nprint('goes on')", PYTHONWARNINGS="error")
    assert "UserWarning: odd" in log


def test_peft_warns_of_tied_embeddings_in_the_log(tmp_path):
    """A merged model of this kind would differ from the trained one."""
    body = """
        from peft import LoraConfig, get_peft_model
        from transformers import LlamaConfig, LlamaForCausalLM
        sizes = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2, vocab_size=20)
        model = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=1, tie_word_embeddings=True))
        get_peft_model(model, LoraConfig(target_modules=["lm_head"], task_type="CAUSAL_LM"))
    """
    job(tmp_path, body)
    (text,) = [t for t in warnings_in(tmp_path / "logs/job.log") if "tie" in t]
    assert text.startswith("peft: ")


def test_what_concerns_no_result_is_not_told(tmp_path, logging_restored):
    log = tmp_path / "a.log"
    log_to(log, anew=True)
    for kind in (DeprecationWarning, FutureWarning, ResourceWarning, UserWarning, RuntimeWarning):
        warnings.warn(f"{kind.__name__} (twice: (x))", kind, stacklevel=1)
    logging.getLogger("transformers.trainer").warning("read: (a, b)")
    logging.getLogger("transformers.trainer").info("not a warning")
    logging.getLogger("transformers.trainer_utils").warning("mtime may not be reliable on this filesystem")
    for _ in range(2):
        logging.getLogger("anamnesis.data.splits").warning("%d rows\nare dropped", 3)
    here = Path(__file__).stem
    assert warnings_in(log) == [
        f"{here}: UserWarning (twice: (x))",
        f"{here}: RuntimeWarning (twice: (x))",
        "transformers: read: (a, b)",
        "3 rows are dropped",
    ]
    assert warnings_in(None) == warnings_in(tmp_path / "none.log") == []


def test_of_further_processes_the_log_has_what_libraries_warn_about(tmp_path, logging_restored, capsys):
    log = tmp_path / "a.log"
    log_to(log, anew=True)
    log_to(log, speaks=False)
    logging.getLogger("anamnesis").warning("said by all")
    logging.getLogger("accelerate").info("not a warning")
    logging.getLogger("accelerate").warning("said by this one")
    assert warnings_in(log) == ["accelerate: said by this one"]
    assert "said" not in capsys.readouterr().err


def test_libraries_keep_handing_on(logging_restored):
    log_to(None)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.StreamHandler())
        assert logger.propagate
        assert not logger.handlers


@pytest.fixture
def suite(tmp_path):
    """Results of two experiments with notes of their jobs."""
    notes = {
        "models/tiny.json": ("prepare_model", ["all"]),
        "models/other.json": ("prepare_model", ["other model"]),
        "tasks/a.json": ("prepare_task/a", ["3 rows are dropped"]),
        "tiny/vectors/a/mean.json": ("average_activations/a", ["all", "b"]),
        "tiny/suite/m/stage1/training.json": ("train_stage/m-stage1", ["all"]),
        "tiny/suite/m/stage2/training.json": ("train_stage/m-stage2", ["all"]),
        "tiny/else/m/stage1/training.json": ("train_stage/m-stage1", ["other suite"]),
        "tiny/suite/quiet.json": ("quiet", []),
    }
    for name, (called, texts) in notes.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
        write_note(states_read([]), [file], called, texts)
    return tmp_path / "tiny" / "suite"


def test_warnings_of_a_run_are_told_once_with_their_jobs(suite):
    damaged = note_file([suite / "quiet.json"])
    damaged.write_text("{")
    with pytest.raises(UserError):
        Note.load(damaged)
    found = run_warnings(suite)
    assert found[0] == (
        "all",
        ["average_activations/a", "prepare_model", "train_stage/m-stage1", "train_stage/m-stage2"],
    )
    assert found[1:] == [("3 rows are dropped", ["prepare_task/a"]), ("b", ["average_activations/a"])]
    assert run_warnings(suite.parent / "nothing") == [
        (text, [job for job in jobs if not job.startswith("train")]) for text, jobs in found
    ]


def test_the_report_has_a_section_of_warnings(suite):
    section = warned(run_warnings(suite))
    assert section.title == "Warnings"
    assert section.tables[0].rows[0] == ("all", 4, "average_activations/a and 3 more")
    assert warned([]) is None


def test_a_note_of_an_earlier_version_has_no_warnings(suite):
    file = suite.parent.parent / "models" / ".tiny.json.made.json"
    file.write_text('{"read": {}, "written": {}}')
    assert Note.load(file).warnings == []
