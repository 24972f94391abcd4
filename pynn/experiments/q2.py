"""Question 2: logistic loss on binary20, with a linear model (2.3) and with one hidden layer (2.4)."""

from __future__ import annotations

from dataclasses import dataclass

from pynn.data import Dataset, load
from pynn.experiments.binary import BinaryConfig, run_binary
from pynn.experiments.protocol import Recipe
from pynn.experiments.rows import Question
from pynn.experiments.work import Work
from pynn.losses import LogisticLoss

__all__ = ["DATA", "Config", "run"]

DATA = "binary20"
QUESTIONS = (
    Question("2.3", "Logistic regression, linear", reported=0.936, target=0.936),
    Question("2.4", "Logistic loss, one hidden layer", reported=0.94, target=0.94),
)


@dataclass(frozen=True)
class Config(BinaryConfig):
    """Searched: the weight decay, and the hidden size with it."""

    weight_decays: tuple[float, ...] = (3e-3, 1e-3, 3e-4, 1e-4)
    hidden_sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    hidden_weight_decays: tuple[float, ...] = (3e-2, 2e-2, 1e-2)
    linear: Recipe = Recipe(epochs=150, lr=1.0)
    hidden: Recipe = Recipe(epochs=60, lr=0.5)

    @classmethod
    def quick(cls) -> Config:
        return cls(
            weight_decays=(1e-3, 1e-4),
            hidden_sizes=(10, 100),
            hidden_weight_decays=(2e-2,),
            n_trials=1,
            n_seeds=3,
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
    """The rows 2.3 and 2.4; `on_row` is called with each as soon as it is done.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    return run_binary(
        config,
        LogisticLoss(),
        QUESTIONS,
        data=data or load(DATA, data_dir, fallback=True),
        seed=seed,
        progress=progress,
        on_row=on_row,
        work=work,
    )
