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


# -- the checksum ---------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_the_arrays_is_told(path):
    save(cnn(), path)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    begin = 8 + int.from_bytes(data[:8], "little")
    for bit in rng.integers(8 * begin, 8 * len(data), 480):
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        for read in (load, load_metadata):
            with pytest.raises(ModelFileError, match=r"is damaged .*: its checksum is not that of its content"):
                read(path)
        data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    load(path)


def test_every_flipped_bit_of_the_header_is_told_or_harmless(path):
    model = Sequential(Linear(2, 2), ReLU())
    save(model, path, metadata={"classes": ["cat", "dog"], "mean": [0.25]})
    data = bytearray(path.read_bytes())
    state, bits = model.state_dict(), 8 * (8 + int.from_bytes(data[:8], "little"))
    for bit in np.random.default_rng(0).permutation(bits)[:400]:
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with suppress(ModelFileError):  # any other error fails the test
            loaded, metadata = load(path), load_metadata(path)
            assert repr(loaded) == repr(model)
            assert all(np.array_equal(array, state[name]) for name, array in loaded.state_dict().items())
            assert metadata == {"classes": ["cat", "dog"], "mean": [0.25]}
        data[bit // 8] ^= 1 << bit % 8


def test_files_from_before_there_was_a_checksum(path):
    model = Sequential(Linear(2, 2))
    header = {"format": 1, "kind": "model", "model": model.to_config(), "metadata": {"a": 1}}
    write_header(path, header, model.state_dict())
    assert np.array_equal(load(path)[0].weight.data, model[0].weight.data)
    assert load_metadata(path) == {"a": 1}


# -- metadata and weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [[1, 2], "text", 3, (("a", 1),)])
def test_metadata_are_an_object(path, metadata):
    with pytest.raises(TypeError, match=r"cannot write .*: metadata must be a dict, got"):
        save(cnn(), path, metadata=metadata)
    assert not path.exists()
    write_header(path, {"format": 1, "kind": "model", "model": LINEAR, "metadata": list(map(str, str(metadata)))})
    with pytest.raises(ModelFileError, match="has metadata that are no object but"):
        load_metadata(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({0: "cat"}, "the key 0 is no text, write it as '0'"),
        ({"a": [{"b": {None: 1}}]}, "the key None is no text"),
        ({"mean": [float("nan")]}, "must be JSON values: Out of range float values"),
        ({"mean": np.array([np.inf])}, "must be JSON values: Out of range float values"),
        ({"n": 10**5000}, "must be JSON values: Exceeds the limit"),
        ({"f": len}, "builtin_function_or_method is not a JSON value"),
    ],
)
def test_metadata_that_would_come_back_otherwise(path, metadata, message):
    with pytest.raises((TypeError, ValueError), match=f"cannot write .*{message}") as refusal:
        save(cnn(), path, metadata=metadata)
    assert len(str(refusal.value).replace(str(path), "m")) < 300
    assert not path.exists()


def test_metadata_without_end(path):
    endless = {}
    endless["self"] = endless
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for metadata in (endless, deep):
        with pytest.raises(ValueError, match=r"cannot write .*the metadata must be JSON values"):
            save(Sequential(Linear(1, 1)), path, metadata=metadata)
    assert not path.exists()


@pytest.mark.parametrize("text", ["\ud800", "\udcff\udc80", "\x00\x1f", "犬🐕", "\u2028"])
def test_any_text_comes_back(path, text):
    save(Sequential(Linear(1, 1)), path, metadata={text: [text]})
    assert load_metadata(path) == {text: [text]}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [lambda m: m[6].bias.data, lambda m: m[1].running_var])
def test_weights_of_no_use_are_told(path, value, place):
    model = cnn()
    place(model)[0] = value
    with pytest.raises(ValueError, match=r"cannot write .*: (6.bias|1.running_var) has NaN or infinite values"):
        save(model, path)
    assert not path.exists()
    pynn.io.write_tensors(path, "model", model.state_dict(), {"model": model.to_config(), "metadata": {}})
    with pytest.raises(ModelFileError, match=r"has NaN or infinite values in (6.bias|1.running_var)"):
        load(path)


def test_what_is_no_model(path):
    with pytest.raises(TypeError, match=r"save: expected a model, got str: save\(model, path\)"):
        save(str(path), cnn())


# -- the container --------------------------------------------------------------------------------------------


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (raw({"a": F32}, b"\0" * 7), "its arrays take 8 bytes, the file has 7 for them"),
        (raw({"a": F32}, b"\0" * 9), "its arrays take 8 bytes, the file has 9"),
        (raw({"a": F32 | {"shape": [3]}}, b"\0" * 8), "a is not where its shape"),
        (raw({"a": F32 | {"shape": [2**40, 2**40]}}, b"\0" * 8), "a is not where its shape"),
        (raw({"a": F32 | {"shape": [10**400]}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"shape": [-1, -2]}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"shape": [2.0]}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"shape": [True] * 33}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"dtype": "BF16"}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"dtype": ["F32"]}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"data_offsets": [8, 0]}}, b"\0" * 8), "its entry a describes no array"),
        (raw({"a": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12), "a is not where its shape"),
        (raw({"a": F32, "b": F32}, b"\0" * 8), "b is not where its shape"),
        (raw({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, b"\0" * 20), "b is not where its shape"),
        (raw({"a": 3}), "its entry a describes no array"),
        (raw([]), "its header is no object"),
        (raw({"__metadata__": []}), "its metadata are no texts"),
        (raw({"__metadata__": {"pynn": 3}}), "its metadata are no texts"),
        (raw(b'{"a": 1, "a": 2}'), "the same key twice"),
        (raw(b'{"a": NaN}'), "NaN is no number of JSON"),
        (raw(b'{"a": 1e400}'), "1e400 is too large"),
        (raw(b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "recursion"),
        (raw(b'{"a": ' + b"9" * 5000 + b"}"), "Exceeds the limit"),
        (raw(b"\xff\xfe{}"), "can't decode byte"),
        (raw(b"[" + b"0," * 2**22 + b"0]"), "it has more than 4194304 values"),
        (raw(b"{}", length=2**63), "its header has 9223372036854775808 bytes, of 10 in the file"),
        (raw(b"{}", length=3), "its header has 3 bytes"),
        (b"", "its header has 0 bytes, of 0"),
        (b"\1\0\0", "its header has 1 bytes, of 3"),
    ],
)
def test_containers_that_are_none(path, content, message):
    path.write_bytes(content)
    for read in (load, load_metadata):
        with pytest.raises(ModelFileError, match=f"is damaged or not a model of pynn: .*{message}") as refusal:
            read(path)
        assert len(str(refusal.value).replace(str(path), "m")) < 300
        assert str(refusal.value).isprintable()


def test_a_header_that_asks_for_memory_gets_none(path):
    import tracemalloc

    entries = {
        f"a{i}": {"dtype": "F64", "shape": [2**30], "data_offsets": [i * 2**33, (i + 1) * 2**33]} for i in range(9)
    }
    path.write_bytes(raw(entries))
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="its arrays take 77309411328 bytes, the file has 0 for them"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_reading_takes_the_memory_of_the_arrays(path):
    import tracemalloc

    save(Sequential(Linear(1000, 1000)), path)
    tracemalloc.start()
    tensors, _ = pynn.io.read_tensors(path, "model")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(array.nbytes for array in tensors.values()) < peak < 1.5 * path.stat().st_size


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_every_dtype_and_shape(path, dtype):
    rng = np.random.default_rng(0)
    tensors = {
        "matrix": rng.integers(0, 2, (3, 4)).astype(dtype),
        "scalar": np.ones((), dtype),
        "empty": np.zeros((0, 5), dtype),
        "": rng.integers(0, 2, 7).astype(dtype),
    }
    pynn.io.write_tensors(path, "model", tensors, {})
    back, _ = pynn.io.read_tensors(path, "model")
    assert back.keys() == tensors.keys()
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)
        assert back[name].shape == array.shape
    other = safetensors_numpy.load_file(path)
    assert all(np.array_equal(other[name], array) for name, array in tensors.items())


@pytest.mark.parametrize("read", [load, load_metadata])
def test_what_is_no_regular_file_is_not_opened(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", "a\0b", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(path)


def test_a_file_that_shrinks_while_it_is_read(path, monkeypatch):
    save(cnn(), path)
    size = path.stat().st_size
    real = os.fstat

    def before_it_shrank(descriptor):
        status = real(descriptor)
        return os.stat_result((*status[:6], size, *status[7:]))

    path.write_bytes(path.read_bytes()[:-100])
    monkeypatch.setattr(os, "fstat", before_it_shrank)
    with pytest.raises(ModelFileError, match="it became shorter while it was read"):
        load(path)
