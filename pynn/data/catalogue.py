"""Owns the names of the data sets, and which embedded set stands in for which real one."""

from __future__ import annotations

import dataclasses

from pynn.data.binary20 import load_binary20
from pynn.data.cifar10 import load_cifar10
from pynn.data.dataset import DataNotFound, Dataset
from pynn.data.mnist import load_fashion_mnist, load_mnist
from pynn.data.uci import load_breast_cancer, load_digits
from pynn.values import shown

__all__ = ["load"]

_LOADERS = {
    "binary20": lambda data_dir, download: load_binary20(data_dir),
    "mnist": lambda data_dir, download: load_mnist(data_dir, download=download),
    "fashion-mnist": lambda data_dir, download: load_fashion_mnist(data_dir, download=download),
    "cifar10": lambda data_dir, download: load_cifar10(data_dir, download=download),
    "digits": lambda data_dir, download: load_digits(),
    "breast-cancer": lambda data_dir, download: load_breast_cancer(),
}
_STAND_INS = {
    "binary20": load_breast_cancer,
    "mnist": load_digits,
    "fashion-mnist": load_digits,
    "cifar10": load_digits,
}


def load(name: str, data_dir=None, *, download: bool = True, fallback: bool = False) -> Dataset:
    """The data set "binary20", "mnist", "fashion-mnist", "cifar10", "digits" or "breast-cancer".

    Real data are looked for in `data_dir` alone if given, else in PYNN_DATA, the user's cache, and, if `download`,
    at public mirrors. With `fallback`, and without `data_dir`, where they are in none of these the embedded set of
    the same kind (breast cancer for binary20, digits for the images) is returned: its `origin` is "embedded" and
    its `note` says why. Raises ValueError for an unknown name, DataNotFound where nothing was found, DataError for
    data found but unreadable (with `fallback` as well: damaged data are a mistake to mend, not to pass over).
    """
    if not isinstance(name, str) or name not in _LOADERS:
        raise ValueError(f"unknown data set {shown(name)}: expected one of {', '.join(_LOADERS)}")
    try:
        return _LOADERS[name](data_dir, download)
    except DataNotFound as error:
        if not fallback or data_dir is not None or name not in _STAND_INS:
            raise
        stand_in = _STAND_INS[name]()
        return dataclasses.replace(stand_in, note=f"{error}; the embedded {stand_in.name} stand in")
