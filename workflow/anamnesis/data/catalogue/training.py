"""The suites that models are trained on one task after the other: FUNC, TRACE and LONG.

Lengths and epochs are those of the paper on instruction vectors (arXiv 2406.12227), licences those that the
sources state.
"""

from __future__ import annotations

from anamnesis.data.catalogue.entry import Columns, DataSet, Hub, parquet

GLUE = ("nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c")
SUPER_GLUE = ("aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646")
AG_NEWS = ("fancyzhx/ag_news", "eb185aade064a813bc0b7f42de02595523103ca4")


# ---------------------------------------------------------------- FUNC


_FUNC = {"suite": "FUNC", "paper": "2310.15213", "licence": "MIT", "epochs": 10}


def _spanish(selection: str, instruction: str) -> DataSet:
    return DataSet(
        f"{selection}_spanish",
        **_FUNC,
        metric="exact_match",
        instruction=instruction,
        composed_of=(selection, "english-spanish"),
    )


FUNC = (
    DataSet(
        "alphabetically_last_of_5",
        **_FUNC,
        instruction="Choose the word that comes last in the alphabet.",
        files=("alphabetically_last_5",),
    ),
    _spanish("choose_last_of_5", "Translate the last word of the list into Spanish."),
    _spanish(
        "object_v_concept_5", "Find the word that names a physical object and translate it into Spanish."
    ),
    _spanish("verb_v_adjective_5", "Find the word that is a verb and translate it into Spanish."),
    DataSet(
        "ag_news",
        **{**_FUNC, "licence": "not stated"},
        hub=Hub(
            *AG_NEWS,
            parquet("data", train="train", test="test"),
            Columns("{text}", classes=("World", "Sports", "Business", "Science"), label="label"),
        ),
    ),
    DataSet("sentiment", **_FUNC),
)
"""Adapted by 2406.12227 from the public function-vector tasks."""


# ---------------------------------------------------------------- TRACE

_SOLVE = "Solve the following math problem.\nQuestion:"


_TRACE = {"suite": "TRACE", "paper": "2310.06762", "licence": "Apache-2.0 (TRACE); sources: their own"}

TRACE = (
    DataSet(
        "c_stance",
        **_TRACE,
        own_metric="exact_string",
        epochs=5,
        instruction="判断以下文本对指定对象的态度，选择一项：A.支持，B.反对，C.中立。输出A，B或者C。\n文本：",
        cue="态度：",
    ),
    DataSet(
        "fomc",
        **_TRACE,
        own_metric="exact_string",
        epochs=3,
        instruction="What is the monetary policy stance for the following text? "
        "A. dovish, B. hawkish, C. neutral. Choose one from A, B and C.\nText:",
        cue="Stance:",
    ),
    DataSet(
        "meetingbank",
        **_TRACE,
        metric="rouge_l",
        own_metric="rouge_l_trace",
        epochs=7,
        instruction="Write a summary of the following meeting transcripts.\nMeeting transcripts:",
        cue="Summary:",
    ),
    DataSet(
        "py150",
        **_TRACE,
        metric="edit_similarity",
        own_metric="edit_similarity_trace",
        epochs=5,
        instruction="Write the line that follows in the Python code.",
    ),
    DataSet(
        "scienceqa",
        **_TRACE,
        own_metric="first_character",
        epochs=3,
        instruction="Choose an answer for the following question and give your reasons.\n\nQuestion:",
        cue="Answer:",
    ),
    DataSet(
        "numglue_cm",
        **_TRACE,
        metric="number",
        own_metric="exact_string",
        epochs=5,
        instruction=_SOLVE,
        cue="Answer:",
    ),
    DataSet(
        "numglue_ds",
        **_TRACE,
        metric="number",
        own_metric="exact_string",
        epochs=5,
        instruction=_SOLVE,
        cue="Answer:",
    ),
    DataSet(
        "20minuten",
        **_TRACE,
        metric="sari",
        own_metric="sari_trace",
        epochs=7,
        instruction="Provide a simplified version of the following paragraph in German.\n\nParagraph:",
        cue="Simplification:",
    ),
)
"""The eight tasks of TRACE; 2406.12227 learns six of them."""


# ---------------------------------------------------------------- LONG

_STARS = ("very negative", "negative", "neutral", "positive", "very positive")
_FEELING = "What is the sentiment of the following paragraph? Choose one from the option."
_TOPIC = "What is the topic of the following paragraph? Choose one from the option."
_LOGIC = (
    'What is the logical relationship between the "sentence 1" and the "sentence 2"? '
    "Choose one from the option."
)
_DBPEDIA = (
    "Company", "Educational Institution", "Artist", "Athlete", "Office Holder", "Mean of Transportation",
    "Building", "Natural Place", "Village", "Animal", "Plant", "Album", "Film", "Written Work",
)  # fmt: skip
_YAHOO = (
    "Society & Culture", "Science & Mathematics", "Health", "Education & Reference", "Computers & Internet",
    "Sports", "Business & Finance", "Entertainment & Music", "Family & Relationships",
    "Politics & Government",
)  # fmt: skip
_SENTENCES = "sentence 1: {premise}\nsentence 2: {hypothesis}"


_BOTH = {"train": "train", "test": "test"}
_TRUTH = {"classes": ("False", "True"), "label": "label"}


def _long(name: str, instruction: str, licence: str, hub: Hub | None = None) -> DataSet:
    return DataSet(name, "LONG", "2310.14152", licence, instruction=instruction, hub=hub, epochs=1)


def _glue(folder: str, columns: Columns, test: str = "validation") -> Hub:
    return Hub(*GLUE, parquet(folder, train="train", test=test), columns)


def _super_glue(folder: str, columns: Columns) -> Hub:
    return Hub(*SUPER_GLUE, parquet(folder, train="train", test="validation"), columns)


LONG = (
    _long(
        "yelp",
        _FEELING,
        "Yelp's terms",
        Hub(
            "Yelp/yelp_review_full",
            "c1f9ee939b7d05667af864ee1cb066393154bf85",
            parquet("yelp_review_full", **_BOTH),
            Columns("Text: {text}", classes=_STARS, label="label"),
        ),
    ),
    _long("amazon", _FEELING, "not stated"),
    _long(
        "mnli",
        _LOGIC,
        "its sources' (GLUE)",
        _glue(
            "mnli",
            Columns(_SENTENCES, classes=("entailment", "neutral", "contradiction"), label="label"),
            "validation_matched",
        ),
    ),
    _long(
        "cb",
        _LOGIC,
        "its source's (SuperGLUE)",
        _super_glue(
            "cb", Columns(_SENTENCES, classes=("entailment", "contradiction", "neutral"), label="label")
        ),
    ),
    _long(
        "copa",
        "",
        "BSD 2-Clause",
        _super_glue(
            "copa",
            Columns(
                'Which sentence is the {question} of "{premise}"? Choose one between A and B.\n'
                "A: {choice1}\nB: {choice2}",
                classes=("A", "B"),
                label="label",
            ),
        ),
    ),
    _long(
        "qqp",
        'Whether the "first sentence" and the "second sentence" have the same meaning? '
        "Choose one from the option.",
        "Quora's terms",
        _glue("qqp", Columns("first sentence: {question1}\nsecond sentence: {question2}", **_TRUTH)),
    ),
    _long(
        "rte",
        _LOGIC,
        "its sources' (GLUE)",
        _glue(
            "rte",
            Columns(
                "sentence 1: {sentence1}\nsentence 2: {sentence2}",
                classes=("entailment", "contradiction"),
                label="label",
            ),
        ),
    ),
    _long(
        "imdb",
        _FEELING,
        "not stated",
        Hub(
            "stanfordnlp/imdb",
            "e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
            parquet("plain_text", **_BOTH),
            Columns("{text}", classes=("Bad", "Good"), label="label"),
        ),
    ),
    _long(
        "sst2",
        _FEELING,
        "not stated",
        _glue("sst2", Columns("Text: {sentence}", classes=("Bad", "Good"), label="label")),
    ),
    _long(
        "dbpedia",
        _TOPIC,
        "CC BY-SA 3.0",
        Hub(
            "fancyzhx/dbpedia_14",
            "9abd46cf7fc8b4c64290f26993c540b92aa145ac",
            parquet("dbpedia_14", **_BOTH),
            Columns("Title: {title}\nText: {content}", classes=_DBPEDIA, label="label"),
        ),
    ),
    _long(
        "agnews",
        _TOPIC,
        "not stated",
        Hub(
            *AG_NEWS,
            parquet("data", **_BOTH),
            Columns(
                "Text: {text}",
                classes=("World", "Sports", "Business", "Science or Technology"),
                label="label",
            ),
        ),
    ),
    _long(
        "yahoo",
        _TOPIC,
        "not stated",
        Hub(
            "community-datasets/yahoo_answers_topics",
            "6652a1e7c94f7260a0bfd0c9092dd48e2d536ea1",
            parquet("yahoo_answers_topics", **_BOTH),
            Columns(
                "Question: {question_title} {question_content}\nAnswer: {best_answer}",
                classes=_YAHOO,
                label="topic",
            ),
        ),
    ),
    _long(
        "multirc",
        "According to the following passage and question, is the candidate answer true or false? "
        "Choose one from the option.",
        "its sources' (SuperGLUE)",
        _super_glue(
            "multirc",
            Columns(
                "paragraph: {paragraph}\nquestion: {question}\ncandidate answer: {answer}",
                **_TRUTH,
            ),
        ),
    ),
    _long(
        "boolq",
        "According to the following passage, is the question true or false? Choose one from the option.",
        "CC BY-SA 3.0",
        _super_glue("boolq", Columns("question: {question}\npassage: {passage}", **_TRUTH)),
    ),
    _long(
        "wic",
        "Given a word and two sentences, whether the word is used with the same sense in both sentence? "
        "Choose one from the option.",
        "CC BY-NC 4.0",
        _super_glue("wic", Columns("word: {word}\n{sentence1}\n{sentence2}", **_TRUTH)),
    ),
)
"""The fifteen tasks of O-LoRA and Progressive Prompts."""
