"""Model files: what is written comes back, and nothing else is taken for a model."""

import json
import os
import pickle
import sys
from contextlib import suppress

import numpy as np
import pytest

import pynn.io
from pynn.files import WriteError
from pynn.io import ModelFileError, load, load_metadata, save
from pynn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Residual, Sequential
from pynn.module import Parameter

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def cnn(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    model = Sequential(
        Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, dtype=dtype, rng=rng),
        BatchNorm2d(4, dtype=dtype),
        Residual(Sequential(Conv2d(4, 4, 3, padding=1, bias=False, dtype=dtype, rng=rng), ReLU())),
        MaxPool2d(2),
        Flatten(),
        Dropout(0.25, rng=rng),
        Linear(24, 3, dtype=dtype, rng=rng),
        input_shape=(2, 7, 5),
    )
    model.forward(rng.normal(size=(6, 2, 7, 5)).astype(dtype), training=True)  # moves the running statistics
    return model


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_comes_back_bit_for_bit(path, dtype):
    model = cnn(dtype)
    save(model, path)
    loaded = load(path)
    assert repr(loaded) == repr(model)
    state, expected = loaded.state_dict(), model.state_dict()
    assert state.keys() == expected.keys()
    for name in expected:
        assert state[name].dtype == expected[name].dtype == dtype
        assert np.array_equal(state[name], expected[name]), name
    x = np.random.default_rng(1).normal(size=(3, 2, 7, 5)).astype(dtype)
    assert np.array_equal(loaded(x), model(x))


def test_a_loaded_model_can_be_trained(path):
    save(cnn(), path)
    model = load(path)
    out = model.forward(np.ones((4, 2, 7, 5), np.float32), training=True)
    model.backward(np.ones_like(out))
    assert all(np.abs(p.grad).sum() > 0 for name, p in model.named_parameters() if name == "6.weight")


def test_any_memory_order(path):
    model = Sequential(Linear(3, 4))
    expected = np.arange(12, dtype=np.float32).reshape(3, 4)
    model[0].weight = Parameter(np.asfortranarray(expected))
    save(model, path)
    assert np.array_equal(load(path)[0].weight.data, expected)
    pynn.io.write_tensors(path, "model", {"a": expected.T, "b": np.float32(3)}, {})
    tensors, _ = pynn.io.read_tensors(path, "model")
    assert np.array_equal(tensors["a"], expected.T)
    assert tensors["b"].shape == ()


def test_metadata(path):
    metadata = {"classes": ["cat", "犬"], "mean": [0.1, 2.5e-300], "nested": {"n": 3, "none": None}}
    save(cnn(), path, metadata=metadata)
    assert load_metadata(path) == metadata
    save(cnn(), path)
    assert load_metadata(path) == {}
    save(cnn(), path, metadata={"mean": np.array([0.5, 1.5]), "n": np.int64(3)})
    assert load_metadata(path) == {"mean": [0.5, 1.5], "n": 3}


def test_metadata_that_are_not_json_are_refused_and_leave_the_file(path):
    save(cnn(), path, metadata={"good": 1})
    with pytest.raises(
        TypeError, match=r"cannot write .*: the metadata must be JSON values: set is not a JSON value"
    ):
        save(cnn(), path, metadata={"bad": {1, 2}})
    assert load_metadata(path) == {"good": 1}


def test_other_libraries_read_the_arrays(path):
    model = cnn()
    save(model, path)
    arrays = safetensors_numpy.load_file(path)
    assert arrays.keys() == model.state_dict().keys()
    assert np.array_equal(arrays["6.weight"], model.state_dict()["6.weight"])


def test_the_same_model_gives_the_same_bytes(tmp_path):
    save(cnn(), tmp_path / "a")
    save(cnn(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_truncation_is_refused(path):
    save(Sequential(Linear(2, 2), ReLU()), path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="is damaged or not a model of pynn"):
            load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(ModelFileError, match="is damaged or not a model of pynn"):
        load(path)


def test_every_flipped_header_byte_is_refused_or_harmless(path):
    save(Sequential(Linear(2, 2)), path)
    whole = path.read_bytes()
    for position in range(8 + int.from_bytes(whole[:8], "little")):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with suppress(ModelFileError):  # any other error fails the test
            load(path)


class Boom:
    def __reduce__(self):
        return (os.abort, ())


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Boom()),
        b"PK\x03\x04" + b"\0" * 100,
        b"\x89PNG\r\n\x1a\n",
        b"\xff" * 100,
        (2**40).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[[[[",
    ],
)
def test_foreign_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged or not a model of pynn"):
        load(path)


def write_header(path, header, tensors=None):
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(safetensors_numpy.save(tensors or {"a": np.zeros(2)}, metadata={"pynn": text}))


LINEAR = {"type": "Linear", "in_features": 2, "out_features": 2}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{", "is damaged or not a model"),
        ("[" * 100_000, "is damaged or not a model"),
        ("3", "was not written by pynn"),
        ({"kind": "model"}, "was not written by pynn"),
        ({"format": 2, "kind": "model"}, "has format 2, this version of pynn reads 1: use a newer version"),
        ({"format": 1, "kind": "checkpoint"}, "is a checkpoint, expected a model"),
        ({"format": 1, "kind": ["model"]}, "expected a model"),
        ({"format": 1, "kind": "model"}, "has no entry 'model'"),
        ({"format": 1, "kind": "model", "model": {"type": "os.system"}}, "os.system"),
        ({"format": 1, "kind": "model", "model": {"type": "Module"}}, "describes no model that can be made"),
        ({"format": 1, "kind": "model", "model": LINEAR}, "the state lacks bias, weight"),
        (
            {"format": 1, "kind": "model", "model": LINEAR | {"in_features": 2**29, "out_features": 2**29}},
            "describes",
        ),
        ({"format": 1, "kind": "model", "model": LINEAR | {"in_features": -1}}, "describes no model"),
        ({"format": 1, "kind": "model", "model": LINEAR | {"shell": "sh"}}, "describes no model"),
    ],
)
def test_hostile_headers_are_refused(path, header, message):
    write_header(path, header)
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_safetensors_of_another_library_are_refused(path):
    path.write_bytes(safetensors_numpy.save({"weight": np.zeros((2, 2), np.float32)}))
    with pytest.raises(ModelFileError, match="was not written by pynn"):
        load(path)


def test_arrays_of_the_wrong_dtype_are_refused(path):
    arrays = {"weight": np.zeros((2, 2)), "bias": np.zeros(2)}
    write_header(path, {"format": 1, "kind": "model", "model": LINEAR}, arrays)
    with pytest.raises(ModelFileError, match=r"expected .* of dtype float32, got float64"):
        load(path)


@pytest.mark.parametrize("read", [load, load_metadata])
def test_a_file_that_is_not_there(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none: expected a model written by pynn"):
        read(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read(tmp_path)


@pytest.mark.parametrize("read", [load, load_metadata])
def test_a_file_that_may_not_be_read(path, read):
    save(cnn(), path)
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        with pytest.raises(PermissionError, match="Permission denied"):
            read(path)
    finally:
        path.chmod(0o600)


def test_an_unwritable_folder(tmp_path):
    with pytest.raises(WriteError, match=r"cannot write .*missing"):
        save(cnn(), tmp_path / "missing" / "m")


def test_the_missing_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r'pip install "pynn-cnn\[io\]"'):
        save(cnn(), path)
    assert not path.exists()
