"""The instruction-tuned start."""

if CONFIG.tuning.enabled:

    rule tune_model:
        input:
            snapshot=PREPARED,
            tasks=[TASKS / f"{task}.parquet" for task in TUNING_TASKS],
        output:
            tuned=directory(SNAPSHOT),
            adapter=directory(TUNED / "adapter"),
            steps=TUNED / "tuning.parquet",
            record=TUNED / "tuning.json",
        log:
            LOGS / "tune_model.log",
        benchmark:
            BENCHMARKS / "tune_model.tsv"
        priority: PRIORITY["model"]
        conda:
            ENVIRONMENT
        threads: Demands(CONFIG, PREPARED).threads_alone
        resources:
            mem_mb=Demands(CONFIG, PREPARED).memory_of_tuning,
            runtime=Demands(CONFIG, PREPARED).time("tune_model", resumes=True),
            gpu=DEMANDS.gpus,
            batch_tokens=CONFIG.evaluation.batch_tokens,
            checkpoint_steps=CONFIG.training.checkpoint_steps,
        params:
            names=TUNING_TASKS,
            tuning={
                key: value for key, value in SETTINGS["tuning"].items() if key not in ("enabled", "tasks")
            },
            model=config_section(CONFIG, "model.name", "model.dtype", "model.device")["model"],
            prompts=SETTINGS["prompts"],
            answer_lengths={name: answer_length(name) for name in TUNING_TASKS},
            # a user's own metric only changes how a task is scored: it must not make the model stale
            metrics={name: published_metric(name) for name in TUNING_TASKS},
            scorer=CONFIG.evaluation.scorer,
            max_input_tokens=CONFIG.training.max_input_tokens,
            seed=CONFIG.seed,
            code=script_digest("tune_model"),
        script:
            "../scripts/tune_model.py"
