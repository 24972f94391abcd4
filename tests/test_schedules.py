"""Schedules: tables of values, ends, values that compare, refusals."""

import math
import pickle

import pytest

from pynn.schedules import Constant, Cosine, Exponential, OneCycle, PerEpoch, StepDecay, Warmup

ALL = [
    Constant(),
    StepDecay(3, 0.5),
    Exponential(0.9),
    Cosine(),
    Cosine(0.1),
    OneCycle(),
    OneCycle(0.5, 10, 100, "linear"),
    OneCycle(warmup=0),
    OneCycle(warmup=1),
    Warmup(3),
    Warmup(4, Cosine()),
    PerEpoch(StepDecay(2, 0.5), 3),
    PerEpoch(Warmup(2, Cosine()), 5),
]


@pytest.mark.parametrize(
    ("schedule", "total_steps", "factors"),
    [
        (Constant(), 3, [1, 1, 1]),
        (StepDecay(2), 6, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (StepDecay(3, gamma=0.5), 5, [1, 1, 1, 0.5, 0.5]),
        (Exponential(0.5), 4, [1, 0.5, 0.25, 0.125]),
        (Cosine(), 4, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0, 0]),
        (Cosine(0.2), 2, [1, 0.6, 0.2, 0.2]),
        (OneCycle(0.5, 5, 10, "linear"), 5, [0.2, 0.6, 1, 0.55, 0.1, 0.1]),
        (OneCycle(0.25, 5, 10), 5, [0.2, 1, 0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.25, 0.1, 0.1]),
        (OneCycle(0, 5, 10, "linear"), 3, [1, 0.55, 0.1]),
        (OneCycle(1, 5, 10, "linear"), 3, [0.2, 0.6, 1, 1]),
        (Warmup(3), 6, [0.25, 0.5, 0.75, 1, 1, 1]),
        (Warmup(1, Cosine()), 3, [0.5, 1, 0.5, 0]),
        (Warmup(1, OneCycle(0.5, 5, 10, "linear")), 6, [0.1, 0.2, 0.6, 1, 0.55, 0.1]),
        (Warmup(3, Cosine()), 2, [0.25, 0.5, 0.75]),  # longer than the run
        (PerEpoch(StepDecay(1, 0.5), 2), 6, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        (PerEpoch(StepDecay(1, 0.5)).in_steps(2), 5, [1, 1, 0.5, 0.5, 0.25, 0.25]),
        (PerEpoch(Exponential(0.5)).in_steps(3), 6, [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        (PerEpoch(Cosine()).in_steps(2), 7, [1, 1, (1 + math.sqrt(0.5)) / 2, (1 + math.sqrt(0.5)) / 2, 0.5]),
        (PerEpoch(lambda epoch, epochs: epoch / epochs, 2), 5, [0, 0, 1 / 3, 1 / 3, 2 / 3]),
        (Warmup(2, PerEpoch(StepDecay(1, 0.5))).in_steps(2), 6, [1 / 3, 2 / 3, 1, 1, 0.5, 0.5]),
    ],
)
def test_table_of_values(schedule, total_steps, factors):
    got = [schedule(step, total_steps) for step in range(len(factors))]
    assert got == pytest.approx(factors, rel=1e-14, abs=1e-16)
    assert all(type(factor) is float for factor in got)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize("total_steps", [1, 2, 7, 1000])
def test_factors_lie_between_0_and_1(schedule, total_steps):
    assert all(0 <= schedule(step, total_steps) <= 1 for step in range(total_steps + 3))


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_one_cycle_rises_then_falls(anneal):
    schedule = OneCycle(0.3, 25, 1e4, anneal)
    factors = [schedule(step, 1001) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 25, rel=1e-14)
    assert factors[300] == pytest.approx(1, rel=1e-14)
    assert factors[1000] == 1e-4
    assert factors[:301] == sorted(factors[:301])
    assert factors[300:] == sorted(factors[300:], reverse=True)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedules_are_values(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))
    with pytest.raises(AttributeError):
        schedule.anything = 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StepDecay(0), r"\[StepDecay\] step_size must be an int from 1 up, got 0"),
        (lambda: StepDecay(1.5), "got 1.5"),
        (lambda: StepDecay(5, 0), "gamma must be a number above 0 and at most 1, got 0"),
        (lambda: Exponential(1.1), r"\[Exponential\] gamma must be a number above 0 and at most 1, got 1.1"),
        (lambda: Exponential(math.nan), "got nan"),
        (lambda: Cosine(-0.1), r"\[Cosine\] final must be a number from 0 to 1, got -0.1"),
        (lambda: Cosine("0"), "got '0'"),
        (lambda: OneCycle(warmup=1.5), r"\[OneCycle\] warmup must be a number from 0 to 1, got 1.5"),
        (lambda: OneCycle(div=0.5), "div must be a finite number from 1 up, got 0.5"),
        (lambda: OneCycle(final_div=math.inf), "final_div must be a finite number from 1 up, got inf"),
        (lambda: OneCycle(anneal="cubic"), 'anneal must be "cosine" or "linear", got \'cubic\''),
        (lambda: Warmup(0), r"\[Warmup\] steps must be an int from 1 up, got 0"),
        (lambda: Warmup(5, after=0.5), "after must be a schedule, .*got 0.5"),
        (lambda: Cosine()(-1, 10), r"\[Cosine\] step must be an int from 0 up, got -1"),
        (lambda: Cosine()(0.5, 10), "step must be an int from 0 up, got 0.5"),
        (lambda: Constant()(0, 0), r"\[Constant\] total_steps must be an int from 1 up, got 0"),
        (lambda: Exponential(0.9)(10**400, 10), "step must be an int from 0 up"),
        (lambda: Constant()(True, 10), "step must be an int from 0 up, got True"),
        (lambda: StepDecay(10**400), "step_size must be an int from 1 up"),
        (lambda: StepDecay(True), "got True"),
        (lambda: OneCycle(div=10**400), "div must be a finite number from 1 up"),
        (lambda: OneCycle(anneal=["cosine"]), 'anneal must be "cosine" or "linear"'),
        (lambda: PerEpoch(3), r"\[PerEpoch\] schedule must be a schedule, .* got 3"),
        (lambda: PerEpoch(Constant(), 0), "steps_per_epoch must be an int from 1 up, or None, got 0"),
        (lambda: PerEpoch(Constant())(0, 3), "the steps of an epoch are not known: give steps_per_epoch"),
        (
            lambda: PerEpoch(lambda e, n: -1, 2)(4, 8),
            r"\[PerEpoch\] schedule must return .*, got -1 at step 2",
        ),
        (lambda: Warmup(2, lambda t, n: math.nan)(0, 8), r"\[Warmup\] after must return a finite number"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_function_that_returns_no_number():
    with pytest.raises(TypeError, match=r"\[Warmup\] after must return a number, got None at step 1"):
        Warmup(2, lambda step, total: None)(3, 8)


def test_a_length_in_steps_that_was_given_stays():
    assert PerEpoch(Constant(), 3).in_steps(7) == PerEpoch(Constant(), 3)
    assert Cosine().in_steps(7) == Cosine()
