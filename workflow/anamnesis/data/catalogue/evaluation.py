"""The sets that are only evaluated on: held out in arXiv 2406.12227, or old tasks of JFA (2505.15467)."""

from __future__ import annotations

from anamnesis.data.catalogue.entry import Columns, DataSet, Hub, parquet

MMLU = ("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe")
LUKAEMON_BBH = ("lukaemon/bbh", "982bb89fd79532a8ac676a61fc42eb1aeec63f99")


# ---------------------------------------------------------------- held-out sets

MMLU_GROUPS = {
    "stem": "abstract_algebra astronomy college_biology college_chemistry college_computer_science "
    "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
    "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
    "high_school_mathematics high_school_physics high_school_statistics machine_learning",
    "humanities": "formal_logic high_school_european_history high_school_us_history "
    "high_school_world_history international_law jurisprudence logical_fallacies moral_disputes "
    "moral_scenarios philosophy prehistory professional_law world_religions",
    "social": "econometrics high_school_geography high_school_government_and_politics "
    "high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality "
    "professional_psychology public_relations security_studies sociology us_foreign_policy",
    "other": "anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging "
    "management marketing medical_genetics miscellaneous nutrition professional_accounting "
    "professional_medicine virology",
}
"""Subjects of MMLU by group, as its authors divide them."""

_QUESTION = "Question: {input}\nAnswer:"
_WITH_LETTER = "Answer the question with the letter of the right option."
_LETTERED = {"choices": "choices.text", "label": "answerKey", "letters": "choices.label"}


_HELD_OUT = {"suite": "held-out", "instruction": _WITH_LETTER, "knowledge": _QUESTION}


def _mmlu(group: str) -> DataSet:
    where = ("subject", tuple(MMLU_GROUPS[group].split()))
    return DataSet(
        f"mmlu_{group}",
        **_HELD_OUT,
        paper="2009.03300",
        licence="MIT",
        demonstrations="train (its dev)",
        hub=Hub(
            *MMLU,
            parquet("all", train="dev", validation="validation", test="test"),
            Columns("{question}", choices="choices", label="answer", where=where),
        ),
    )


HELD_OUT = (
    DataSet(
        "hellaswag",
        "held-out",
        "1905.07830",
        "MIT",
        instruction="Choose the option that continues the text best and answer with its letter.",
        hub=Hub(
            "Rowan/hellaswag",
            "218ec52e09a7e7462a5400043bb9a69a41d06b76",
            parquet("data", train="train", test="validation"),
            Columns("{activity_label}: {ctx_a} {ctx_b!c}", choices="endings", label="label", clean="wikihow"),
        ),
    ),
    DataSet(
        "arc_challenge",
        **_HELD_OUT,
        paper="1803.05457",
        licence="CC BY-SA 4.0",
        hub=Hub(
            "allenai/ai2_arc",
            "210d026faf9955653af8916fad021475a3f00453",
            parquet("ARC-Challenge"),
            Columns("{question}", **_LETTERED),
        ),
    ),
    DataSet(
        "commonsenseqa",
        **_HELD_OUT,
        paper="1811.00937",
        licence="MIT",
        hub=Hub(
            "tau/commonsense_qa",
            "94630fe30dad47192a8546eb75f094926d47e155",
            parquet("data", train="train", test="validation"),
            Columns("{question}", **_LETTERED),
        ),
    ),
    *map(_mmlu, MMLU_GROUPS),
)
"""Never trained on in 2406.12227."""


# ---------------------------------------------------------------- the old tasks of JFA

BBH = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages",
    "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
    "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
    "multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table",
    "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies",
    "word_sorting",
)  # fmt: skip


_JFA = {"suite": "JFA", "instruction": "Solve the word problem.", "metric": "number"}


def _bbh(name: str) -> DataSet:
    hub = Hub(*LUKAEMON_BBH, {"": f"{name}/test-*.parquet"}, Columns("{input}", target="{target}"))
    return DataSet(name, "BBH", "2210.09261", "MIT", hub=hub)


JFA = (
    DataSet(
        "gsm8k",
        **_JFA,
        own_metric="number_after_mark",
        paper="2110.14168",
        licence="MIT",
        hub=Hub(
            "openai/gsm8k",
            "740312add88f781978c0658806c59bc2815b9866",
            parquet("main", train="train", test="test"),
            Columns("{question}", target="{answer}", final_answer="{answer!f}"),
        ),
    ),
    DataSet(
        "svamp",
        **_JFA,
        paper="2103.07191",
        licence="MIT",
        hub=Hub(
            "ChilleD/SVAMP",
            "5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
            parquet("data", train="train", test="test"),
            Columns("{Body} {Question}", target="{Answer}"),
        ),
    ),
    DataSet("mawps", **_JFA, paper="Koncel-Kedziorski et al. 2016", licence="not stated"),
    DataSet("asdiv", **_JFA, paper="2106.15772", licence="CC BY-NC 4.0"),
    DataSet(
        "aqua",
        "JFA",
        "1705.04146",
        "Apache-2.0",
        instruction=_WITH_LETTER,
        knowledge=_QUESTION,
        hub=Hub(
            "deepmind/aqua_rat",
            "33301c6a050c96af81f63cad5562cb5363e88971",
            parquet("raw"),
            Columns("{question}", choices="options", label="correct", clean="lettered"),
        ),
    ),
    *map(_bbh, BBH),
)
"""Old tasks of 2505.15467 besides ARC-Challenge, further word problems, and BBH task by task."""
