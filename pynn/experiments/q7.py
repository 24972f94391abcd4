"""Question 7: what can go wrong, measured: sigmoids (7.1), dropout at inference (7.2), divergence (7.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pynn.data import load
from pynn.experiments.protocol import Recipe, Split, say
from pynn.experiments.q7_divergence import DivergenceConfig, run_divergence
from pynn.experiments.q7_dropout import DropoutConfig, run_dropout
from pynn.experiments.q7_sigmoid import SigmoidConfig, run_sigmoid

__all__ = ["Config", "run"]


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


def run(config: Config, *, data_dir=None, seed: int = 0, progress: bool | None = None, on_row=None) -> list[dict]:
    """The rows 7.1, 7.2 and 7.3; `on_row` is called with each as soon as it is done."""
    data = load("mnist", data_dir, fallback=True)
    parts: tuple[tuple[Callable[..., dict], SigmoidConfig | DropoutConfig | DivergenceConfig], ...] = (
        (run_sigmoid, config.sigmoid),
        (run_dropout, config.dropout),
        (run_divergence, config.divergence),
    )
    rows = []
    for (part, part_config), seeds in zip(parts, np.random.SeedSequence(seed).spawn(len(parts)), strict=True):
        rows.append(part(part_config, Split.of(data, part_config.max_train), seeds))
        say(progress, f"{rows[-1]['question']}  {rows[-1]['title']}: {rows[-1]['seconds']:.1f} s")
        if on_row is not None:
            on_row(rows[-1])
    return rows
