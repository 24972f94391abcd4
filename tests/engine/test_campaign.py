"""The short part of the campaign: random networks against the layers in float64; campaign.py has the long one."""

import numpy as np
import pytest
from engine.campaign import check, compute
from random_networks import network_case

import cnn_ext
from pynn.engine import Frozen, Trainer

CASES = 120
THREADS = [1, 2, 3] if cnn_ext.openmp_enabled() else [1]


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cnn_ext.get_num_threads()
    yield
    cnn_ext.set_num_threads(before)


@pytest.mark.parametrize("first", range(0, CASES, 20))
def test_random_networks(first):
    records = [record for record in compute(2026, range(first, first + 20), THREADS) if "outcome" in record]
    assert [record for record in records if record["outcome"] == "wrong"] == []
    assert sum(record["outcome"] == "equal" for record in records) >= 12  # the others are ill-conditioned


@pytest.fixture
def outcomes_of(monkeypatch):
    monkeypatch.setattr("engine.campaign.TRIALS", 6)
    return lambda n: [check(network_case(1, index), [1])[0] for index in range(n)]


def test_wrong_gradients_are_found(monkeypatch, outcomes_of):
    def backward(self, dscores):
        own(self, dscores)
        for parameter in self.model.parameters():
            parameter.grad.flat[0] *= 1.01

    own = Trainer.backward
    monkeypatch.setattr(Trainer, "backward", backward)
    assert outcomes_of(12).count("wrong") >= 6  # there may be no parameters, or zero gradients


def test_wrong_scores_are_found(monkeypatch, outcomes_of):
    own = Frozen.__call__
    monkeypatch.setattr(Frozen, "__call__", lambda self, x: own(self, x) * np.float32(1.01))
    assert outcomes_of(12).count("wrong") >= 9  # where scores are zeros, or


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")
def test_other_bits_on_two_threads_are_found(monkeypatch):
    def forward(self, x):
        scores = own(self, x)
        scores[0] += np.float32(1e-3 * cnn_ext.get_num_threads())
        return scores

    own = Trainer.forward
    monkeypatch.setattr(Trainer, "forward", forward)
    _, problems, _ = check(network_case(1, 0), [1, 2])
    assert "other bits on another number of threads: scores" in problems
