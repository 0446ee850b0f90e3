"""Built-in tasks asked for by mistake: one line that names it."""

from __future__ import annotations

import pytest

from anamnesis.core.errors import UserError
from anamnesis.data.builtin import builtin_task

SIZES = {"train": 200, "validation": 100, "test": 60}


def test_unknown_task_names_the_nearest_one():
    with pytest.raises(UserError, match="unknown task 'antonim': did you mean 'antonym'"):
        builtin_task("antonim", 0, SIZES)


def test_unknown_split_names_the_nearest_one():
    with pytest.raises(UserError, match="unknown split 'tests': did you mean 'test'"):
        builtin_task("antonym", 0, {"tests": 3})


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_size_that_is_no_positive_integer_is_refused(size):
    with pytest.raises(UserError, match=r"size of split 'train' is .* 1 or more"):
        builtin_task("antonym", 0, {"train": size})


def test_empty_sizes_and_negative_seeds_are_refused():
    with pytest.raises(UserError, match="at least one split"):
        builtin_task("antonym", 0, {})
    with pytest.raises(UserError, match="seed is -1"):
        builtin_task("antonym", -1, SIZES)
