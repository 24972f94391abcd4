"""Owns how the parts of a question become rows: one after the other, each on its own data, seeds and kept work."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pynn.data import Dataset
from pynn.experiments.protocol import Split, say
from pynn.experiments.work import Pieces, Work, data_digest

__all__ = ["Part", "run_parts"]


class Part(NamedTuple):
    """What answers "4.3": `answer(split, seeds, pieces)` gives its row, which `config` decides otherwise."""

    question: str
    config: object
    max_train: int | None
    answer: Callable[[Split, np.random.SeedSequence, Pieces], dict]


def run_parts(
    parts: list[Part],
    data: Dataset,
    seeds: list[np.random.SeedSequence],
    *,
    work: Work | None,
    progress: bool | None,
    on_row: Callable[[dict], object] | None,
) -> list[dict]:
    """The row of each part; `on_row` is called with each as soon as it is done."""
    work = work or Work()
    digest = data_digest(data) if work.folder is not None else ""
    rows = []
    for part, own in zip(parts, seeds, strict=True):
        pieces = work.pieces(part.question, part.config, digest, own)
        rows.append(pieces.row(lambda: part.answer(Split.of(data, part.max_train, pieces), own, pieces)))  # noqa: B023
        say(progress, f"{part.question}  {rows[-1]['title']}: {rows[-1]['seconds']:.1f} s")
        if on_row is not None:
            on_row(rows[-1])
    return rows
