"""Where data are looked for, in which order, and what is said where they are in none of the places."""

import functools
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pynn.data import DataError, DataNotFound, load, load_mnist
from pynn.data.cifar10 import CIFAR10_FILES
from pynn.data.download import PATIENCE, Patience, download
from pynn.data.locate import RemoteFile, cache_folder, find
from pynn.data.mnist import FASHION_MNIST_FILES, MNIST_FILES


def look(place):
    return place if (place / "thing").is_file() else None


def put(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "thing").touch()
    return folder


def test_order(tmp_path, cache, monkeypatch):
    given, named = tmp_path / "given", tmp_path / "named"
    monkeypatch.setenv("PYNN_DATA", str(named))
    with pytest.raises(DataNotFound, match=f"a thing not found in {named} or {cache}"):
        find("Thing", "a thing", look)
    assert find("Thing", "a thing", look, put(given)) == given
    put(cache)
    assert find("Thing", "a thing", look) == cache
    put(named)
    assert find("Thing", "a thing", look) == named
    assert find("Thing", "a thing", look, str(given)) == given


def test_a_given_folder_is_not_passed_over(tmp_path, cache):
    put(cache)
    with pytest.raises(
        DataNotFound, match=f"Thing: expected a thing in the data folder {tmp_path}/x, which lacks it"
    ):
        find("Thing", "a thing", look, tmp_path / "x")


def test_without_a_mirror(cache):
    with pytest.raises(DataNotFound, match=f"not found in {cache}, and it has no public mirror: name the folder"):
        find("Thing", "a thing", look)


def test_downloads_can_be_turned_off(monkeypatch):
    remote = [RemoteFile("thing", 1, "md5:", ("http://127.0.0.1:9/thing",))]
    with pytest.raises(DataNotFound, match=r"downloads are off \(PYNN_OFFLINE=1\)"):
        find("Thing", "a thing", look, remote=remote)
    monkeypatch.delenv("PYNN_OFFLINE")
    with pytest.raises(DataNotFound, match=r"downloads are off \(not asked for\)"):
        find("Thing", "a thing", look, remote=remote, allow_download=False)
    with pytest.raises(DataNotFound, match=r"not found in .*, and thing could not be downloaded \(127\.0\.0\.1: "):
        find("Thing", "a thing", look, remote=remote)


def test_an_unwritable_cache_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("PYNN_OFFLINE")
    remote = [RemoteFile("thing", 1, "md5:", ("http://127.0.0.1:9/thing",))]
    with pytest.raises(DataNotFound, match=f"{tmp_path}/file/pynn/thing cannot be written: Not a directory"):
        find("Thing", "a thing", look, remote=remote)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pynn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "pynn"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "pynn"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "pynn" / "Cache"


def test_a_user_without_a_home(tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert cache_folder() is None
    with pytest.raises(DataNotFound, match="there is no home: name the folder that holds it with PYNN_DATA"):
        find("Thing", "a thing", look, remote=[RemoteFile("thing", 1, "md5:", ("http://127.0.0.1:9/thing",))])
    monkeypatch.setenv("PYNN_DATA", str(put(tmp_path)))
    assert find("Thing", "a thing", look) == tmp_path
    assert load("mnist", fallback=True).origin == "embedded"


def test_a_folder_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="the data folder cannot be read: File name too long"):
        load("mnist", tmp_path / ("x" * 300), fallback=True)


# -- load -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stand_in", "input_shape"),
    [
        ("binary20", "breast cancer Wisconsin", (30,)),
        ("mnist", "UCI digits", (1, 8, 8)),
        ("fashion-mnist", "UCI digits", (1, 8, 8)),
        ("cifar10", "UCI digits", (1, 8, 8)),
    ],
)
def test_fallback_says_so(tmp_path, cache, name, stand_in, input_shape):
    with pytest.raises(DataNotFound):
        load(name)
    with pytest.raises(DataNotFound):
        load(name, tmp_path)
    data = load(name, fallback=True)
    assert (data.name, data.origin, data.input_shape) == (stand_in, "embedded", input_shape)
    assert str(cache) in data.note
    assert data.note.endswith(f"; the embedded {stand_in} stand in")
    with pytest.raises(DataNotFound, match=f"in the data folder {tmp_path}, which lacks it"):
        load(name, tmp_path, fallback=True)  # the user said where the set is: another one is no answer


def test_real_data_go_before_the_fallback(tmp_path, write_mnist):
    write_mnist(tmp_path)
    data = load("mnist", tmp_path, fallback=True)
    assert (data.name, data.origin, data.note) == ("MNIST", "real", "")


def test_damaged_data_are_not_passed_over(tmp_path, write_mnist):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match="t10k-labels"):
        load("mnist", tmp_path, fallback=True)


def test_embedded_sets_by_name():
    assert load("digits").name == "UCI digits"
    assert load("breast-cancer").name == "breast cancer Wisconsin"


def test_unknown_name():
    with pytest.raises(
        ValueError, match="unknown data set 'mnits': expected one of binary20, mnist, fashion-mnist"
    ):
        load("mnits")


def test_no_network_costs_a_few_seconds_at_most(monkeypatch):
    """Name look-up that hangs, as it does behind some firewalls: every mirror is given up in time."""
    for files in (MNIST_FILES, FASHION_MNIST_FILES, CIFAR10_FILES):
        assert len(files[0].mirrors) * PATIENCE.connect <= 10
    ended = threading.Event()

    def hang(*args, **kwargs):
        ended.wait(20)
        raise OSError("no name server")

    monkeypatch.delenv("PYNN_OFFLINE")
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    impatient = functools.partial(download, patience=Patience(connect=0.1))
    monkeypatch.setattr("pynn.data.download.download", impatient)
    start = time.monotonic()
    data = load("mnist", fallback=True)
    seconds = time.monotonic() - start
    ended.set()
    assert data.origin == "embedded"
    assert "googleapis.com, sagemaker-sample-files.s3.amazonaws.com: no answer within 0.1 s" in data.note
    assert seconds < 2


# -- the data set itself ----------------------------------------------------------------------------------------


def test_dataset_repr_is_one_line(tmp_path, write_mnist):
    write_mnist(tmp_path)
    assert repr(load_mnist(tmp_path)) == (
        "Dataset(MNIST, real: 18 train, 2 val, 12 test, 10 classes, uint8 samples of shape (1, 28, 28))"
    )


def test_dataset_refuses_parts_that_do_not_fit(tmp_path, write_mnist):
    write_mnist(tmp_path)
    data = load_mnist(tmp_path)
    for changes, message in (
        ({"x_val": data.x_val[..., :-1]}, "samples of shape"),
        ({"x_val": data.x_val.astype(np.float32)}, "float32 samples"),
        ({"y_test": data.y_test[:-1]}, "a label for each of 12 test samples"),
        ({"y_test": data.y_test - 10}, "expected labels from 0 to 9, got"),
        ({"x_train": data.x_train[:0], "y_train": data.y_train[:0]}, "no training samples"),
    ):
        with pytest.raises(DataError, match=message):
            replace(data, **changes)


def test_paths_may_be_strings(tmp_path, write_mnist):
    write_mnist(tmp_path)
    assert len(load("mnist", str(tmp_path)).y_test) == len(load("mnist", Path(tmp_path)).y_test) == 12
