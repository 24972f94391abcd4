"""What computing takes is told before it is taken."""

import tracemalloc

import numpy as np
import pytest
from engine_networks import NETWORKS, batch, layer_by_layer, network

import pynn
from pynn.engine import Trainer, memory_needed
from pynn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from pynn.module import LayerError


def taken(function):
    """Bytes that are still there after `function`, whose result is kept."""
    tracemalloc.start()
    try:
        kept = function()
        return tracemalloc.get_traced_memory()[0], kept
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [100, 200])
def test_what_a_step_takes(name, n):
    model, shape = network(name)
    x = batch(n, shape)
    trainer = Trainer(model)
    size, _ = taken(lambda: trainer.forward(x))
    assert memory_needed(model, x.shape) == pytest.approx(size, rel=0.25, abs=200_000)  # steps and lists of terms


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [1, 200])
def test_what_inference_takes(name, n):
    model, shape = network(name)
    x, frozen = batch(n, shape), pynn.freeze(model)
    size, _ = taken(lambda: frozen(x))
    assert memory_needed(model, x.shape, training_step=False) == pytest.approx(size, rel=0.25, abs=200_000)


def test_what_layers_take_is_estimated():
    model, shape = network("cnn_bn")
    fast = memory_needed(model, (100, *shape))
    slow = memory_needed(layer_by_layer(model), (100, *shape))
    wide = memory_needed(network("cnn_bn")[0].astype(np.float64), (100, *shape))
    assert fast / 4 < slow < 4 * fast
    assert fast / 2 < wide < 8 * fast


def test_more_than_there_is_can_be_told():
    model = Sequential(Conv2d(3, 64, 3, padding=1), ReLU(), Flatten(), Linear(64 * 1000 * 1000, 2))
    assert memory_needed(model, (10_000, 3, 1000, 1000)) > 4 * 10_000 * 64 * 10**6


def test_what_does_not_fit_is_refused():
    with pytest.raises(LayerError, match="expected x of shape"):
        memory_needed(Sequential(Linear(3, 4)), (10, 5))
