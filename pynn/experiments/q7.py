"""Question 7: what can go wrong, measured: sigmoids (7.1), dropout at inference (7.2), divergence (7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from pynn.data import Dataset, load
from pynn.experiments.parts import Part, run_parts
from pynn.experiments.protocol import Recipe
from pynn.experiments.q7_divergence import DivergenceConfig, run_divergence
from pynn.experiments.q7_dropout import DropoutConfig, run_dropout
from pynn.experiments.q7_sigmoid import SigmoidConfig, run_sigmoid
from pynn.experiments.work import Work

__all__ = ["DATA", "Config", "run"]

DATA = "mnist"


@dataclass(frozen=True)
class Config:
    """Searched: the learning rate of each deep network of 7.1; the rest of 7.1–7.3 is measured as configured."""

    sigmoid: SigmoidConfig = SigmoidConfig()
    dropout: DropoutConfig = DropoutConfig()
    divergence: DivergenceConfig = DivergenceConfig()

    @classmethod
    def quick(cls) -> Config:
        return cls(
            sigmoid=SigmoidConfig(lrs=(0.1, 0.3), steps=300),
            dropout=DropoutConfig(
                rates=(0.2, 0.5, 0.8), recipe=Recipe(epochs=2, lr=0.03, weight_decay=0.0), masks=30
            ),
            divergence=DivergenceConfig(steps=300),
        )


def run(
    config: Config,
    *,
    data: Dataset | None = None,
    data_dir=None,
    seed: int = 0,
    progress: bool | None = None,
    on_row=None,
    work: Work | None = None,
) -> list[dict]:
    """The rows 7.1, 7.2 and 7.3; `on_row` is called with each as soon as it is done.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    data = data or load(DATA, data_dir, fallback=True)
    parts = [
        Part("7.1", config.sigmoid, config.sigmoid.max_train, partial(run_sigmoid, config.sigmoid)),
        Part("7.2", config.dropout, config.dropout.max_train, partial(run_dropout, config.dropout)),
        Part("7.3", config.divergence, config.divergence.max_train, partial(run_divergence, config.divergence)),
    ]
    seeds = np.random.SeedSequence(seed).spawn(len(parts))
    return run_parts(parts, data, seeds, work=work, progress=progress, on_row=on_row)
