"""Question 3: hinge loss on binary20, with a linear model, the SVM (3.3), and with one hidden layer (3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from pynn.data import Dataset, load
from pynn.experiments.binary import BinaryConfig, run_binary
from pynn.experiments.protocol import Recipe
from pynn.experiments.rows import Question
from pynn.experiments.work import Work
from pynn.losses import HingeLoss

__all__ = ["DATA", "Config", "run"]

DATA = "binary20"
QUESTIONS = (
    Question("3.3", "Support vector machine, linear", reported=0.928, target=0.928),
    Question("3.4", "Hinge loss, one hidden layer", reported=0.94, target=0.94),
)


@dataclass(frozen=True)
class Config(BinaryConfig):
    """Searched: the weight decay, which is the SVM's L2 penalty, and the hidden size with it."""

    weight_decays: tuple[float, ...] = (3e-3, 1e-3, 3e-4, 1e-4)
    hidden_sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    hidden_weight_decays: tuple[float, ...] = (2e-1, 1e-1, 5e-2)
    linear: Recipe = Recipe(epochs=150, lr=0.3)
    hidden: Recipe = Recipe(epochs=60, lr=0.3)

    @classmethod
    def quick(cls) -> Config:
        return cls(
            weight_decays=(1e-3, 1e-4),
            hidden_sizes=(10, 100),
            hidden_weight_decays=(1e-1,),
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
    """The rows 3.3 and 3.4; `on_row` is called with each as soon as it is done.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    return run_binary(
        config,
        HingeLoss(),
        QUESTIONS,
        data=data or load(DATA, data_dir, fallback=True),
        seed=seed,
        progress=progress,
        on_row=on_row,
        work=work,
    )
