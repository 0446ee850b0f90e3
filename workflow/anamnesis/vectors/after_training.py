"""What the instruction vector of the model before training gives back to a trained model (arXiv 2406.12227,
figure 7), after the layer chosen before training.
"""

from __future__ import annotations

import pandas as pd
import torch

from anamnesis.engine.prefix_engine import PrefixEngine
from anamnesis.engine.scoring import score_questions
from anamnesis.vectors.interventions import SplitQuestions, intervene, random_vectors

COLUMNS = ["condition", "layer", "accuracy", "n", "right"]


@torch.no_grad()
def accuracy_with_vector(
    engine: PrefixEngine, questions: SplitQuestions, theta: torch.Tensor, layer: int, batch_tokens: int
) -> pd.DataFrame:
    """Accuracy of the model of ``engine`` on a set's questions, one row per condition, columns ``COLUMNS``.

    Conditions, named as in the table of interventions: none (zero-shot), add and random (zero-shot with
    ``theta``, or with a random vector of its norm for each question, added after ``layer``) and few-shot.
    ``layer`` is -1 where nothing is added. An answer is right when greedy decoding begins with the target;
    ``right``: which of them are, question by question.
    """
    asked = questions.zero_shot
    noise = random_vectors(theta, len(asked), torch.Generator().manual_seed(questions.noise))
    vectors = torch.stack([theta.expand(len(asked), -1), noise], 1)
    changed, clean = intervene(engine, asked, vectors, [layer], batch_tokens)
    few_shot = [score.greedy[0] for score in score_questions(engine, questions.few_shot, batch_tokens)]
    right = {
        ("none", -1): clean,
        ("add", layer): changed[0, 0],
        ("random", layer): changed[1, 0],
        ("few-shot", -1): torch.tensor(few_shot),
    }
    rows = [(*key, float(hits.double().mean()), len(hits), hits.tolist()) for key, hits in right.items()]
    return pd.DataFrame(rows, columns=COLUMNS)
