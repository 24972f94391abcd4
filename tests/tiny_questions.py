"""Configurations and data sets so small that every question is answered in moments."""

from __future__ import annotations

import numpy as np

from pynn.data import Dataset
from pynn.experiments import q2, q3, q4, q5, q6, q7
from pynn.experiments.protocol import Recipe
from pynn.experiments.q7_divergence import DivergenceConfig
from pynn.experiments.q7_dropout import DropoutConfig
from pynn.experiments.q7_sigmoid import SigmoidConfig

SHORT = Recipe(epochs=1, lr=0.05, batch_size=20, min_steps=0)
BINARY = {
    "weight_decays": (0.1, 0.0),
    "hidden_sizes": (2, 3),
    "hidden_weight_decays": (0.0,),
    "linear": SHORT,
    "hidden": SHORT,
    "n_trials": 1,
    "n_seeds": 2,
}
TINY = {
    "q2": q2.Config(**BINARY),
    "q3": q3.Config(**BINARY),
    "q4": q4.Config(
        weight_decays=(0.1, 0.0), linear=SHORT, hidden_sizes=(2, 3), hidden=SHORT, search_epochs=1, n_seeds=2
    ),
    "q5": q5.Config(
        kernel_sizes=(2, 3),
        hidden_sizes=(4,),
        filters=3,
        plain=SHORT,
        architectures=((3, 2, 4),),
        dropouts=(0.2, 0.5),
        batch_norm=SHORT,
    ),
    "q6": q6.Config(channels=(2, 2, 2, 2, 3, 3, 3, 3), hidden=(4,), recipe=SHORT, shift=1),
    "q7": q7.Config(
        sigmoid=SigmoidConfig(depth=2, width=5, lrs=(0.1, 0.3), steps=4, batch_size=10, path_steps=5),
        dropout=DropoutConfig(rates=(0.2, 0.5), hidden=5, recipe=SHORT, masks=3),
        divergence=DivergenceConfig(depth=1, hidden=5, lrs=(0.01, 0.1), batch_sizes=(5, 10), steps=4),
    ),
}


def tiny(name):
    """A small data set of the kind that `name` asks for."""
    rng = np.random.default_rng(0)
    if name == "binary20":
        x, classes = rng.standard_normal((80, 6)).astype(np.float32), ("0", "1")
    else:
        shape = (80, 3, 32, 32) if name == "cifar10" else (80, 1, 9, 10)
        x, classes = rng.integers(0, 256, shape).astype(np.uint8), ("a", "b", "c")
    y = rng.integers(0, len(classes), 80)
    rows = slice(0, 40), slice(40, 60), slice(60, 80)
    return Dataset(name, *(part[r] for r in rows for part in (x, y)), classes, "real", "made up")
