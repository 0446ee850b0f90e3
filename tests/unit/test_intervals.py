"""Intervals of means against their textbook formulae, on the same resamples."""

import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest
from scipy.stats import t as student

from anamnesis.stats.intervals import (
    BOOTSTRAP_PAIRS,
    bootstrap_interval,
    paired_interval,
    proportion_interval,
    student_interval,
)

FEW = [0.02, -0.05, 0.11, 0.3, 0.07]
MANY = np.random.default_rng(5).exponential(0.1, BOOTSTRAP_PAIRS) - 0.05


def resampled_means(values, resamples: int, seed: int) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))
    return sample[drawn].mean(axis=1)


def percentile_reference(values, resamples: int, confidence: float, seed: int) -> np.ndarray:
    outside = (1 - confidence) / 2
    return np.quantile(resampled_means(values, resamples, seed), [outside, 1 - outside])


def bca_reference(values, resamples: int, confidence: float, seed: int) -> np.ndarray:
    """Efron 1987: quantiles moved by the bias z0 and the acceleration a, which the jackknife gives."""
    sample, means = np.asarray(values, dtype=float), resampled_means(values, resamples, seed)
    below = ((means < sample.mean()).mean() + (means <= sample.mean()).mean()) / 2
    z0 = ndtri(below)
    left_out = np.array([np.delete(sample, i).mean() for i in range(len(sample))])
    gaps = left_out.mean() - left_out
    a = (gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5)
    z = z0 + np.array([1, -1]) * ndtri((1 - confidence) / 2)
    return np.quantile(means, ndtr(z0 + z / (1 - a * z)))


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_few_differences_have_students_interval(confidence):
    half = student.ppf((1 + confidence) / 2, 4) * np.std(FEW, ddof=1) / 5**0.5
    low, high, how = paired_interval(FEW, confidence=confidence)
    assert (low, high) == pytest.approx((np.mean(FEW) - half, np.mean(FEW) + half))
    assert how == "t"


def test_two_differences_are_enough():
    assert paired_interval([0.0, 0.2])[:2] == pytest.approx((0.1 - 1.27062, 0.1 + 1.27062), abs=1e-5)
    assert bootstrap_interval([0.0, 0.2], 200) == (0.0, 0.2, "BCa")


@pytest.mark.parametrize("interval", [paired_interval, bootstrap_interval])
@pytest.mark.parametrize("values", [[], [0.1]])
def test_one_difference_has_no_interval(interval, values):
    low, high, how = interval(values)
    assert np.isnan([low, high]).all()
    assert how == ""


@pytest.mark.parametrize("count", [2, 3, BOOTSTRAP_PAIRS])
def test_equal_differences_have_no_interval_over_chains(count):
    low, high, how = paired_interval([0.1 + 0.2, *[0.3] * (count - 1)])  # apart by rounding only
    assert np.isnan([low, high]).all()
    assert how == ""


@pytest.mark.parametrize("count", [BOOTSTRAP_PAIRS - 1, BOOTSTRAP_PAIRS])
def test_the_bootstrap_begins_where_students_interval_ends(count):
    low, high, how = paired_interval(np.resize(MANY, count), 300, 0.9, seed=3)
    if count < BOOTSTRAP_PAIRS:
        assert how == "t"
    else:
        assert (low, high) == pytest.approx(tuple(bca_reference(MANY, 300, 0.9, 3)))
        assert how == "BCa"


@pytest.mark.parametrize(("resamples", "confidence", "seed"), [(500, 0.95, 0), (300, 0.8, 7)])
@pytest.mark.parametrize("values", [FEW, MANY], ids=["few", "many"])
def test_the_bootstrap_is_bias_corrected_and_accelerated(values, resamples, confidence, seed):
    low, high, how = bootstrap_interval(values, resamples, confidence, seed)
    assert (low, high) == pytest.approx(tuple(bca_reference(values, resamples, confidence, seed)))
    assert how == "BCa"


def test_without_settings_it_is_95_per_cent_of_ten_thousand_resamples_from_seed_0():
    expected = tuple(bca_reference(MANY, 10_000, 0.95, 0))
    assert paired_interval(MANY)[:2] == bootstrap_interval(MANY)[:2] == pytest.approx(expected)


def test_where_bca_is_not_defined_the_percentile_interval_takes_its_place():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scipy warns of it; the user has nothing to do
        low, high, how = bootstrap_interval(FEW, 3, 0.9, seed=3)
    means = resampled_means(FEW, 3, 3)
    assert (means > np.mean(FEW)).all() or (means < np.mean(FEW)).all()  # every resample on one side
    assert (low, high) == pytest.approx(tuple(percentile_reference(FEW, 3, 0.9, 3)))
    assert how == "percentile"


def test_equal_values_have_a_bootstrap_interval_without_width():
    assert bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25, "percentile")
    apart_by_rounding = [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3]
    assert bootstrap_interval(apart_by_rounding) == (pytest.approx(0.3), pytest.approx(0.3), "percentile")


def test_a_bound_that_is_zero_but_for_rounding_is_zero():
    values = [0.3, 0.1 + 0.2 - 0.3, -(0.1 + 0.2 - 0.3)]
    assert 0 < values[1] < 1e-12
    assert bootstrap_interval(values, 300, 0.95)[0] == 0.0


def test_numbers_of_any_kind_are_taken_as_floats():
    exact = [Fraction(1, 3), Fraction(1, 7), Fraction(2, 5)]
    floats = [float(x) for x in exact]
    assert paired_interval(exact) == paired_interval(floats)
    assert bootstrap_interval(exact, 100) == bootstrap_interval(floats, 100)


def test_a_value_that_is_not_finite_is_a_fault_of_ours_and_is_not_passed_on():
    with pytest.raises(
        AssertionError, match=r"^the percentile interval of two or more finite values is always"
    ):
        bootstrap_interval([0.1, float("nan"), 0.2], 100)


@pytest.mark.parametrize("options", [{}, {"confidence": 0.8}])
def test_many_means_at_once_have_the_interval_of_each(options):
    samples = [FEW, [0.0, 0.2], [-0.3, 0.1, 0.4]]
    mean, spread = (pd.Series([f(x) for x in samples]) for f in (np.mean, lambda x: np.std(x, ddof=1)))
    count = pd.Series([len(x) for x in samples])
    expected = [paired_interval(x, **options)[:2] for x in samples]
    low, high = student_interval(mean, spread, count, **options)
    assert list(zip(low, high, strict=True)) == [pytest.approx(one) for one in expected]
    low, high = student_interval(mean, spread / np.sqrt(count), count, error=True, **options)
    assert list(zip(low, high, strict=True)) == [pytest.approx(one) for one in expected]


def test_of_many_means_those_of_one_value_or_without_spread_have_no_interval():
    mean = pd.Series([0.5, 0.5, 0.5, 0.5, 0.5])
    spread = pd.Series([np.nan, 0.0, 1e-13, 0.1, 0.1])
    low, high = student_interval(mean, spread, pd.Series([1, 3, 3, 1, 2]))
    assert low.isna().tolist() == high.isna().tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("options", [{}, {"confidence": 0.8}])
def test_a_share_has_wilsons_interval(options):
    right, asked = pd.Series([0, 3, 10, 7]), pd.Series([10, 10, 10, 50])
    low, high = proportion_interval(right / asked, asked, **options)
    level = options.get("confidence", 0.95)
    for k in range(4):
        expected = binomtest(int(right[k]), int(asked[k])).proportion_ci(level, method="wilson")
        assert (low[k], high[k]) == pytest.approx((expected.low, expected.high), abs=1e-9)
