"""The instruction-tuned start."""

if CONFIG.tuning.enabled:

    rule tune_model:
        input:
            snapshot=PLACES.prepared,
            tasks=PLACES.task_files(EXPERIMENT.tuning_tasks),
        output:
            tuned=directory(PLACES.snapshot),
            adapter=directory(PLACES.tuned / "adapter"),
            steps=PLACES.tuned / "tuning.parquet",
            record=PLACES.tuned / "tuning.json",
        log:
            LOGS / "tune_model.log",
        priority: PRIORITY["model"]
        conda:
            ENVIRONMENT
        threads: Demands(CONFIG, PLACES.prepared).threads_alone
        resources:
            mem_mb=Demands(CONFIG, PLACES.prepared).memory_of_tuning,
            runtime=Demands(CONFIG, PLACES.prepared).time("tune_model", resumes=True),
            gpu=DEMANDS.gpus,
            batch_tokens=CONFIG.evaluation.batch_tokens,
            checkpoint_steps=CONFIG.training.checkpoint_steps,
        params:
            names=EXPERIMENT.tuning_tasks,
            tuning={
                key: value for key, value in SETTINGS["tuning"].items() if key not in ("enabled", "tasks")
            },
            model=config_section(CONFIG, "model.name", "model.source", "model.dtype", "model.device")["model"],
            prompts=SETTINGS["prompts"],
            answer_lengths={name: TASKS.answer_length(name) for name in EXPERIMENT.tuning_tasks},
            # a user's own metric only changes how a task is scored: it must not make the model stale
            metrics={name: TASKS.published_metric(name) for name in EXPERIMENT.tuning_tasks},
            scorer=CONFIG.evaluation.scorer,
            max_input_tokens=CONFIG.training.max_input_tokens,
            seed=CONFIG.seed,
            code=called_digest("tune_model"),
        script:
            "../scripts/tune_model.py"
