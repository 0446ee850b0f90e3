"""What the report says of heads and interventions: numbers of test examples, at layers chosen on others."""

from anamnesis.report import vector_section
from report_chains import intervened, ranked_heads


def test_heads_sentences():
    strongest, share = (
        text.replace("\u00a0", " ") for text in vector_section.heads_sentences(ranked_heads())
    )
    assert "head 2 of layer 3" in strongest
    assert "+0.121 (s.e. 0.012, 50 prompts, 4 tasks)" in strongest
    assert "2 selected of 3 heads hold 100.0 %" in share
    assert "1 of them lie at least two standard errors above zero" in share


def test_intervention_sentences_are_of_test_examples_at_the_layer_chosen_on_others():
    row = vector_section.intervention_rows(intervened()).iloc[0]
    assert (row["layer"], row["add"], row["random"], row["n"]) == (1, 0.52, 0.04, 50)
    assert (row["removal_layer"], row["remove"]) == (2, 0.2)
    said = " ".join(vector_section.interventions_sentences(intervened())).replace("\u00a0", " ")
    assert "by 30 points or more on 1 of 1 set. The layer of each set is chosen on validation" in said
    assert "antonym: 2.0 % without, 52.0 % with the vector after layer 1 (n = 50)" in said
    assert "+2.0 points to +2.0 points" in said


def test_intervention_that_does_nothing_is_said():
    flat = intervened().assign(accuracy=0.02)
    assert "on 0 of 1 set." in vector_section.interventions_sentences(flat)[0]
    only = intervened()[lambda frame: frame["condition"].isin(["none", "few-shot"])]
    assert vector_section.interventions_sentences(only) == ["No vector was added to a zero-shot prompt."]
