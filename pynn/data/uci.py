"""Owns the two small data sets that come with pynn: UCI's optical digits and breast cancer Wisconsin."""

from __future__ import annotations

from pathlib import Path

from pynn.data.dataset import Dataset
from pynn.data.input_format import value_range
from pynn.data.npz import read_npz

__all__ = ["load_breast_cancer", "load_digits"]


def load_digits() -> Dataset:
    """Optical recognition of handwritten digits: 1,797 grey 8×8 images, uint8 (N, 1, 8, 8), ten classes.

    The original's pixels count 0–16 and are stored times 15, so 0–240. A fixed split, each class alike: 60 % for
    training, 20 % each for validation and test.

    Source: E. Alpaydin, C. Kaynak, UCI Machine Learning Repository, doi:10.24432/C50P49 (CC BY 4.0), test part.
    """
    return _load(
        "UCI digits", "digits.npz", tuple("0123456789"), "E. Alpaydin, C. Kaynak: doi:10.24432/C50P49, CC BY 4.0"
    )


def load_breast_cancer() -> Dataset:
    """Breast Cancer Wisconsin (Diagnostic): 569 samples, float32 (N, 30), malignant (0) or benign (1).

    A fixed split, each class alike: 60 % for training, 20 % each for validation and test. The features are as
    measured and differ in scale by 10⁵: standardise them.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, UCI Machine Learning Repository, doi:10.24432/C5DW2B
    (CC BY 4.0).
    """
    return _load(
        "breast cancer Wisconsin",
        "breast_cancer.npz",
        ("malignant", "benign"),
        "W. Wolberg, O. Mangasarian, N. Street, W. Street: doi:10.24432/C5DW2B, CC BY 4.0",
    )


def _load(name: str, file: str, classes: tuple[str, ...], citation: str) -> Dataset:
    arrays = read_npz(Path(__file__).parent / "embedded" / file)
    train, val, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "val", "test"))
    return Dataset.from_parts(
        name,
        train,
        val,
        test,
        classes=classes,
        origin="embedded",
        citation=citation,
        value_range=value_range(train[0]),
    )
