"""A row of every hub repository of the catalogue in the repository's own layout, and what becomes of it."""

from __future__ import annotations

LABELLED = {"text": ["wet {}", "dry"], "label": ["A", "B"]}
PAIR = {"premise": "Rain.", "hypothesis": "It is wet."}

# name -> (the row; {} stands where rows differ, expected input, expected target, expected choices, label)
ROWS = {
    "ag_news": ({"text": "Shares fall {}", "label": 2}, "Shares fall {}", "Business", 4, 2),
    "yelp": ({"text": "Good food {}", "label": 4}, "Text: Good food {}", "very positive", 5, 4),
    "mnli": (
        {**PAIR, "premise": "Rain {}.", "label": 0, "idx": 3},
        "sentence 1: Rain {}.\nsentence 2: It is wet.",
        "entailment",
        3,
        0,
    ),
    "cb": (
        {**PAIR, "premise": "Rain {}.", "label": 1, "idx": 3},
        "sentence 1: Rain {}.\nsentence 2: It is wet.",
        "contradiction",
        3,
        1,
    ),
    "copa": (
        {"premise": "It rained {}.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect", "label": 0},
        'Which sentence is the effect of "It rained {}."? Choose one between A and B.\nA: Wet.\nB: Dry.',
        "A",
        2,
        0,
    ),
    "qqp": (
        {"question1": "Why {}?", "question2": "How?", "label": 0},
        "first sentence: Why {}?\nsecond sentence: How?",
        "False",
        2,
        0,
    ),
    "rte": (
        {"sentence1": "Rain {}.", "sentence2": "Sun.", "label": 1},
        "sentence 1: Rain {}.\nsentence 2: Sun.",
        "contradiction",
        2,
        1,
    ),
    "imdb": ({"text": "A bore {}", "label": 0}, "A bore {}", "Bad", 2, 0),
    "sst2": ({"sentence": "a joy {}", "label": 1}, "Text: a joy {}", "Good", 2, 1),
    "dbpedia": (
        {"title": "Oak", "content": "A tree {}", "label": 10},
        "Title: Oak\nText: A tree {}",
        "Plant",
        14,
        10,
    ),
    "agnews": (
        {"text": "New chips {}", "label": 3},
        "Text: New chips {}",
        "Science or Technology",
        4,
        3,
    ),
    "yahoo": (
        {
            "id": 5,
            "topic": 5,
            "question_title": "Who won {}?",
            "question_content": "Now",
            "best_answer": "We.",
        },
        "Question: Who won {}? Now\nAnswer: We.",
        "Sports",
        10,
        5,
    ),
    "multirc": (
        {"paragraph": "Rain {}.", "question": "Wet?", "answer": "Yes", "label": 1},
        "paragraph: Rain {}.\nquestion: Wet?\ncandidate answer: Yes",
        "True",
        2,
        1,
    ),
    "boolq": (
        {"question": "is it wet {}", "passage": "It rains.", "label": 1},
        "question: is it wet {}\npassage: It rains.",
        "True",
        2,
        1,
    ),
    "wic": (
        {"word": "bank", "sentence1": "A bank {}.", "sentence2": "The bank.", "label": 0},
        "word: bank\nA bank {}.\nThe bank.",
        "False",
        2,
        0,
    ),
    "hellaswag": (
        {
            "activity_label": "Cooking",
            "ctx_a": "A man stirs {}.",
            "ctx_b": "he then",
            "endings": ["eats [step] it {}.", "flies."],
            "label": "0",
        },
        "Cooking: A man stirs {}. He then\nA. eats it {}.\nB. flies.",
        "A",
        2,
        0,
    ),
    "arc_challenge": (
        {"question": "Rain is {}?", "choices": {**LABELLED, "label": ["1", "2"]}, "answerKey": "1"},
        "Rain is {}?\nA. wet {}\nB. dry",
        "A",
        2,
        0,
    ),
    "commonsenseqa": (
        {"question": "Rain is {}?", "choices": LABELLED, "answerKey": "B"},
        "Rain is {}?\nA. wet {}\nB. dry",
        "B",
        2,
        1,
    ),
    "mmlu_social": (
        {
            "question": "Who {}?",
            "subject": "sociology",
            "choices": ["I {}", "You", "We", "They"],
            "answer": 2,
        },
        "Who {}?\nA. I {}\nB. You\nC. We\nD. They",
        "C",
        4,
        2,
    ),
    "gsm8k": ({"question": "1 + 1 {}?", "answer": "1 + 1 = 2\n#### 2"}, "1 + 1 {}?", "2", None, None),
    "svamp": (
        {"Body": "Two apples {}.", "Question": "And one?", "Answer": "3", "ID": "x"},
        "Two apples {}. And one?",
        "3",
        None,
        None,
    ),
    "aqua": (
        {"question": "1 + 1 {}?", "options": ["A)2 {}", "B)3"], "rationale": "So.", "correct": "A"},
        "1 + 1 {}?\nA. 2 {}\nB. 3",
        "A",
        2,
        0,
    ),
    "navigate": ({"input": "Turn {}.", "target": "No"}, "Turn {}.", "No", None, None),
    "task618": (
        {"task_name": "task618_x", "id": "i", "definition": "Sum up.", "inputs": "Bad {}", "targets": "Bad"},
        "Bad {}",
        "Bad",
        None,
        None,
    ),
}


def filled(row, tag):
    """The row, or text, with ``tag`` in the places of {}."""
    if isinstance(row, str):
        return row.replace("{}", tag)
    if isinstance(row, list):
        return [filled(item, tag) for item in row]
    if isinstance(row, dict):
        return {key: filled(value, tag) for key, value in row.items()}
    return row
