"""A user's own .npz file, binary20, and .npz files that mean harm."""

import io
import os
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from pynn.data import DataError, Standardize, data_size, load_binary20, load_npz
from pynn.data.npz import open_npz, read_npz

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.repeat([0, 1, 2, 3], 10)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


# -- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save_arrays", [np.savez, np.savez_compressed])
def test_six_arrays_are_taken_as_they_are(tmp_path, save_arrays):
    parts = {"train": slice(0, 20), "val": slice(20, 28), "test": slice(28, 40)}
    arrays = {
        f"{k}_{part}": a[rows] for part, rows in parts.items() for k, a in (("x", X), ("y", np.arange(40) % 4))
    }
    save_arrays(tmp_path / "own.npz", **arrays)
    data = load_npz(tmp_path / "own.npz")
    for name, array in arrays.items():
        read = getattr(data, name)
        np.testing.assert_array_equal(read, array.astype(np.float32) if name[0] == "x" else array)
        assert read.dtype == (np.float32 if name[0] == "x" else np.int64)
    assert (data.name, data.classes, data.origin) == ("own", ("0", "1", "2", "3"), "real")


def test_split_is_stratified_seeded_and_complete(tmp_path):
    path = save(tmp_path / "own.npz", X=X, y=Y)
    data = load_npz(path, val_fraction=0.2, test_fraction=0.3, seed=5)
    assert [np.bincount(y).tolist() for y in (data.y_train, data.y_val, data.y_test)] == [
        [5] * 4,
        [2] * 4,
        [3] * 4,
    ]
    rows = np.concatenate([data.x_train, data.x_val, data.x_test])
    order = np.lexsort(rows.T)
    np.testing.assert_array_equal(rows[order], X.astype(np.float32)[np.lexsort(X.astype(np.float32).T)])
    label_of = {x.tobytes(): y for x, y in zip(X.astype(np.float32), Y, strict=True)}
    labels = np.concatenate([data.y_train, data.y_val, data.y_test])
    assert [label_of[x.tobytes()] for x in rows] == labels.tolist()
    again, other = (load_npz(path, val_fraction=0.2, test_fraction=0.3, seed=seed) for seed in (5, 6))
    np.testing.assert_array_equal(again.x_train, data.x_train)
    assert not np.array_equal(other.x_train, data.x_train)


def test_given_parts_are_kept_and_missing_ones_split_off(tmp_path):
    data = load_npz(save(tmp_path / "own.npz", x_train=X[4:], y_train=Y[4:], x_test=X[:4], y_test=Y[:4]))
    np.testing.assert_array_equal(data.x_test, X[:4].astype(np.float32))
    assert (len(data.x_train), len(data.x_val)) == (32, 4)


def test_no_validation_and_no_test_part(tmp_path):
    data = load_npz(save(tmp_path / "own.npz", X=X, y=Y), val_fraction=0, test_fraction=0)
    assert (data.x_train.shape, data.x_val.shape, data.x_test.shape) == ((40, 3), (0, 3), (0, 3))
    np.testing.assert_array_equal(data.y_train, Y)


@pytest.mark.parametrize(
    "fractions", [(-0.1, 0.1), (0.5, 0.5), (float("nan"), 0), ("a", 0), (None, 0), (True, 0), (0, 10**400)]
)
def test_fractions_out_of_range(tmp_path, fractions):
    path = save(tmp_path / "own.npz", X=X, y=Y)
    with pytest.raises(ValueError, match="at least 0 and together below 1"):
        load_npz(path, val_fraction=fractions[0], test_fraction=fractions[1])


@pytest.mark.parametrize("seed", ["x", -1, 1.5, True])
def test_seeds_that_are_none(tmp_path, seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0, got"):
        load_npz(save(tmp_path / "own.npz", X=X, y=Y), seed=seed)


def test_a_number_is_no_path():
    with pytest.raises(TypeError):
        load_npz(0)


@pytest.mark.parametrize("call", [load_npz, data_size])
def test_a_name_too_long(call):
    with pytest.raises(DataError, match=r"not a readable \.npz file: File name too long"):
        call("x" * 5000)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["dog", "cat", "emu"], ("cat", "dog", "emu")),
        ([b"dog", b"cat", b"emu"], ("cat", "dog", "emu")),
        ([7, -2, 100], ("-2", "7", "100")),
        (np.array([7, 2, 100], np.uint64), ("2", "7", "100")),
        ([1.0, 0.0, 2.0], ("0", "1", "2")),
        ([True, False, True], ("False", "True")),
        ([[7], [2], [9]], ("2", "7", "9")),
    ],
    ids=["str", "bytes", "int", "uint64", "whole floats", "bool", "column"],
)
def test_labels_of_any_kind(tmp_path, labels, classes):
    labels = np.array(labels)
    data = load_npz(save(tmp_path / "own.npz", X=X[:3], y=labels), val_fraction=0, test_fraction=0)
    assert data.classes == classes
    names = [
        v.decode() if isinstance(v, bytes) else str(int(v) if classes[0].isdigit() else v) for v in labels.ravel()
    ]
    assert [classes[k] for k in data.y_train] == names


def test_labels_of_mixed_integer_kinds(tmp_path):
    y, y_test = np.array([2, 7, 9], np.uint64), np.array([7, 2])
    path = save(tmp_path / "own.npz", x_train=X[:3], y_train=y, x_test=X[3:5], y_test=y_test)
    data = load_npz(path, val_fraction=0)
    assert data.classes == ("2", "7", "9")
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 1, 2], [1, 0])


def test_a_class_that_the_training_part_lacks_is_refused(tmp_path):
    path = save(tmp_path / "own.npz", x_train=X[:4], y_train=list("abab"), x_test=X[:2], y_test=list("bc"))
    with pytest.raises(DataError, match="the test part has the class c, of which there is no training sample"):
        load_npz(path, val_fraction=0)


def test_a_class_that_the_test_part_lacks_is_told(tmp_path):
    path = save(tmp_path / "own.npz", x_train=X[:3], y_train=list("abc"), x_test=X[:2], y_test=list("bc"))
    assert load_npz(path, val_fraction=0).describe() == (
        "own: 3 training, 0 validation, 2 test samples of 3 in 3 classes: a 1+0, b 1+1, c 1+1; no test sample of a"
    )


@pytest.mark.parametrize(
    ("shape", "dtype", "read_shape", "read_dtype"),
    [
        ((6, 5, 4), np.uint8, (6, 1, 5, 4), np.uint8),
        ((6, 2, 5, 4), np.uint8, (6, 2, 5, 4), np.uint8),
        ((6, 2, 5, 4), np.float64, (6, 2, 5, 4), np.float32),
        ((6, 5, 4), np.float16, (6, 1, 5, 4), np.float32),
        ((6, 5), np.uint8, (6, 5), np.float32),
        ((6, 5), np.int64, (6, 5), np.float32),
        ((6, 3, 5, 3), np.uint8, (6, 3, 5, 3), np.uint8),
    ],
)
def test_shapes_and_dtypes(tmp_path, shape, dtype, read_shape, read_dtype):
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    data = load_npz(save(tmp_path / "own.npz", X=x, y=Y[8:14]), val_fraction=0, test_fraction=0)
    assert (data.x_train.shape, data.x_train.dtype) == (read_shape, read_dtype)
    np.testing.assert_array_equal(data.x_train.ravel(), x.ravel())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "the file has a: rename it or leave it out"),
        ({}, "the file has nothing"),
        ({"X": X}, r"y_train missing \(expected x_train and y_train, or X and y\), the file has X"),
        ({"x_train": X, "y_train": Y, "x_val": X}, "y_val missing"),
        ({"X": X, "y": Y[:-1]}, "X has 40 samples, but y 39 labels"),
        ({"X": X[:, 0], "y": Y}, r"expected X to be numbers of shape .* got float64 \(40,\)"),
        ({"X": X.astype(str), "y": Y}, "expected X to be numbers"),
        ({"X": X[:, :0], "y": Y}, r"got float64 \(40, 0\)"),
        ({"X": X.astype(complex), "y": Y}, "expected X to be numbers"),
        ({"X": np.full((4, 2), np.nan), "y": [0, 1, 0, 1]}, "X has 8 values that are not finite"),
        ({"X": np.full((4, 2), 1e300), "y": [0, 1, 0, 1]}, "X has 8 values that are not finite"),
        ({"X": X, "y": Y + 0.5}, "labels that are integers or strings, got float64"),
        ({"X": X, "y": np.full(40, np.nan)}, "labels that are integers or strings"),
        ({"X": X, "y": np.zeros((40, 4))}, r"labels of shape \(N,\) or one-hot \(N, K\), got \(40, 4\)"),
        ({"X": X, "y": 3}, r"labels of shape \(N,\) or one-hot \(N, K\), got \(\)"),
        ({"X": X, "y": np.zeros(40, int)}, "at least two classes, got 1"),
        ({"X": X[:0], "y": Y[:0]}, "at least two classes, got 0"),
        ({"X": np.zeros((4, 8, 6, 3)), "y": [0, 1, 0, 1]}, r"channels come last: save np\.moveaxis\(X, 3, 1\)"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, r"samples of shape \(3,\) as in x_train"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, "strings, others numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        load_npz(save(tmp_path / "own.npz", **arrays))
    assert "own" in str(caught.value)
    assert "\n" not in str(caught.value)


# -- files that mean harm ---------------------------------------------------------------------------------------


class Runs:
    def __reduce__(self):
        return open, ("executed", "w")


def test_object_arrays_are_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "own.npz", X=np.array([Runs()]), y=Y)
    with pytest.raises(DataError, match=r"own\.npz: not a readable \.npz file: X holds Python objects"):
        load_npz(path)
    assert not (tmp_path / "executed").exists()


def npy(shape, dtype="<f8", content=b"") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + content


def write_zip(path, content: bytes, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("X.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**12,)), "claims 8,000,000,000,000 bytes, which it does not hold"),
        (npy((10**9, 10**9, 10**9)), "which it does not hold"),
        (npy((10**12,), "|V0"), "X holds records"),
        (npy((-1, -5), content=bytes(40)), "a header that is none"),
        (npy((3,), content=bytes(16)), "which it does not hold"),
        (npy((3,), content=bytes(32)), "which it does not hold"),
        (npy((3,))[:20], ""),
        (b"\x93NUMPY\x03\x00", "version"),
        (b"", ""),
        (b"not an array", ""),
        (npy((3,), content=bytes(24)).replace(b"'descr'", b"'other'"), ""),
    ],
)
def test_hostile_members_are_refused_within_little_memory(tmp_path, content, message):
    path = write_zip(tmp_path / "own.npz", content)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"own\.npz: not a readable \.npz file: .*{message}") as caught:
        read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert "\n" not in str(caught.value)


def test_a_false_size_in_the_zip_directory_is_refused(tmp_path):
    """The header and the directory agree on 800 million bytes, the 300 compressed bytes cannot hold them."""
    header = npy((10**8,))
    path = write_zip(tmp_path / "own.npz", header + bytes(100_000))
    content = path.read_bytes()
    true, false = (struct.pack("<I", len(header) + n) for n in (100_000, 8 * 10**8))
    assert content.count(true) == 2
    path.write_bytes(content.replace(true, false))
    with pytest.raises(DataError, match="claims 800,000,000 bytes, which it does not hold"):
        read_npz(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY" + bytes(100)], ids=["zero bytes", "cut off", "npy"])
def test_no_zip_file(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"own\.npz: not a readable .*: get it again or write it with numpy\.savez$"
    ):
        load_npz(tmp_path / "own.npz")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"own\.npz: not a readable \.npz file: No such file or directory$"):
        load_npz(tmp_path / "own.npz")


def member(content: bytes, name="X.npy", **options) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def npy_header(text: str, version=(1, 0), content=b"") -> bytes:
    header = text.encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + content


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n"


def test_headers_that_other_writers_make(tmp_path):
    values = np.array([1.5, 2.5])
    for text in (
        GOOD,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}",
        "{'shape': (2L,), 'descr':'<f8','fortran_order':True}   \n",
    ):
        (tmp_path / "a.npz").write_bytes(member(npy_header(text, content=values.tobytes())))
        np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["X"], values)
    (tmp_path / "a.npz").write_bytes(member(npy_header(GOOD, (2, 0), values.tobytes())))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz")["X"], values)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 4000 + ")" * 4000 + "}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': " + "-" * 9000 + "1}",
        "{'descr': " + "[" * 9000 + "}",
        "[" * 9999,
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "2," * 3000 + ")}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 3000 + ",)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '<f8', 'fortran_order': 1, 'shape': (2,)}",
        "{'descr': 'x\\d', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|V16', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'more': __import__('os')}",
        "{'descr': '<U999999999', 'fortran_order': False, 'shape': (999999999,)}",
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_headers_that_mean_harm(tmp_path, text, version):
    (tmp_path / "own.npz").write_bytes(member(npy_header(text, version, bytes(16))))
    start = time.process_time()
    with pytest.raises(DataError, match=r"own\.npz: not a readable \.npz file: X ") as caught:
        read_npz(tmp_path / "own.npz")
    assert time.process_time() - start < 1
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_a_header_of_gigabytes(tmp_path):
    content = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + bytes(50_000_000)
    (tmp_path / "own.npz").write_bytes(member(content, compression=zipfile.ZIP_DEFLATED))
    del content
    tracemalloc.start()
    with pytest.raises(DataError, match="X has a header of 4,294,967,295 bytes"):
        read_npz(tmp_path / "own.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_directory_of_a_hundred_thousand_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("X.npy", b"")
        info = archive.infolist()[0]
        archive.filelist = [info] * 100_000
        archive._didModify = True
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(DataError, match="its directory has more than 262,144 bytes"):
        read_npz(tmp_path / "own.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    assert time.process_time() - start < 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("X.npy", "X.npy"), ("X.npy", "X")])
def test_names_that_are_there_twice(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        for name in names:
            archive.writestr(name, npy_header(GOOD, content=bytes(16)))
    with pytest.raises(DataError, match="it holds X twice"):
        read_npz(tmp_path / "own.npz")


def test_encrypted_and_oddly_compressed_members(tmp_path):
    content = bytearray(member(npy_header(GOOD, content=bytes(16))))
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match="X is encrypted"):
        read_npz(tmp_path / "own.npz")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        (tmp_path / "own.npz").write_bytes(member(npy_header(GOOD, content=bytes(16)), compression=method))
        with pytest.raises(DataError, match="X is compressed by another method than deflate"):
            read_npz(tmp_path / "own.npz")


@pytest.mark.parametrize("save_arrays", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_found(tmp_path, save_arrays):
    save_arrays(tmp_path / "own.npz", X=RNG.integers(0, 256, 5000).astype(np.uint8))
    content = bytearray((tmp_path / "own.npz").read_bytes())
    content[2500] ^= 4
    (tmp_path / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"own\.npz: not a readable \.npz file: "):
        read_npz(tmp_path / "own.npz")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["<f8", ">f8", ">f4", "<i4", ">i2", ">u8", "?", "<U5", ">U5", "S3", "<c16", "<f2"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 3), (2, 3, 4), (0, 5)])
def test_every_order_dtype_and_shape(tmp_path, shape, dtype, order):
    array = np.asarray(RNG.integers(0, 100, shape)).astype(dtype).copy(order=order)
    np.savez(tmp_path / "a.npz", a=array)
    read = read_npz(tmp_path / "a.npz")["a"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == shape


def test_more_than_a_piece(tmp_path):
    array = RNG.random((300, 700))
    np.savez_compressed(tmp_path / "a.npz", c=array, f=np.asfortranarray(array))
    for read in read_npz(tmp_path / "a.npz").values():
        np.testing.assert_array_equal(read, array)


def test_text_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(
        member(npy_header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", content=b"\xff" * 4))
    )
    with pytest.raises(DataError, match="X holds text that is none"):
        read_npz(tmp_path / "a.npz")


def test_booleans_of_other_bytes_are_true(tmp_path):
    header = npy_header("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", content=b"\0\1\7")
    (tmp_path / "a.npz").write_bytes(member(header))
    assert read_npz(tmp_path / "a.npz")["X"].view(np.uint8).tolist() == [0, 1, 1]


def test_only_what_is_wanted_is_decoded(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, big=np.zeros(100_000))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(bytes(800_000), b"x" * 800_000))
    with open_npz(tmp_path / "a.npz") as archive:
        assert archive.names == ("X", "big")
        assert archive.header("big").shape == (100_000,)
        np.testing.assert_array_equal(archive.read("X"), X)
    with pytest.raises(DataError, match="Bad CRC-32"), open_npz(tmp_path / "a.npz") as archive:
        archive.read("big")


@pytest.mark.parametrize(
    ("x", "ratio"),
    [
        (RNG.random((20_000, 50)), 2),
        (RNG.random((20_000, 50)).astype(np.float32), 2),
        (RNG.integers(0, 256, (2000, 1, 30, 30)).astype(np.uint8), 2),
        (RNG.random((2000, 1, 30, 30)), 2),
        (np.asfortranarray(RNG.random((20_000, 50))), 2),
    ],
)
def test_memory_is_within_twice_the_result(tmp_path, x, ratio):
    np.savez(tmp_path / "a.npz", X=x, y=np.arange(len(x)) % 2)
    tracemalloc.start()
    data = load_npz(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = sum(getattr(data, f"{k}_{part}").nbytes for k in "xy" for part in ("train", "val", "test"))
    assert peak < ratio * result + 2_000_000


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError, match="it is a FIFO, not a regular file"):
        load_npz(tmp_path / "a.npz")


# -- a user's own arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "y_train", "X_test", "y_test", "X_val", "y_val"),
        ("x_train", "Y_train", "x_test", "Y_test", "x_valid", "y_valid"),
        ("X", "y", "X_test", "y_test", "x_validation", "y_validation"),
        ("x", "Y", "x_TEST", "y_TEST", "x_Val", "y_val"),
    ],
)
def test_names_that_mean_the_same(tmp_path, names):
    arrays = {name: X[at * 8 :][:8] if name[0] in "xX" else np.arange(8) % 2 for at, name in enumerate(names)}
    data = load_npz(save(tmp_path / "own.npz", **arrays))
    for part, name in (("train", names[0]), ("test", names[2]), ("val", names[4])):
        np.testing.assert_array_equal(getattr(data, f"x_{part}"), arrays[name].astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X, "y": Y, "x_tset": X}, "the file has x_tset: did you mean x_test?"),
        ({"X": X, "y": Y, "x_vall": X}, "the file has x_vall: did you mean x_val?"),
        ({"X": X, "y": Y, "weights": Y}, "the file has weights: rename it or leave it out"),
        ({"X": X, "labels": Y}, "the file has labels"),
        ({"X": X, "y": Y, "x_train": X}, "X and x_train are both the train part: leave out one"),
        ({"X": X, "y": Y, "x_val": X, "y_val": Y, "x_valid": X}, "x_val and x_valid are both the val part"),
        ({"X": X, "y": Y, "x_test": X}, r"y_test missing \(expected x_test and y_test\)"),
        ({"X": X, "y": Y.astype(float) + np.where(np.arange(40) == 3, np.nan, 0)}, "with nan in row 3"),
        ({"X": X, "y": np.where(np.arange(40) == 7, 0.5, Y)}, r"with 0\.5 in row 7"),
        ({"X": X, "y": np.array([b"caf\xe9", b"b"] * 20)}, r"y holds the label caf\\xe9, which is no UTF-8 text"),
        ({"X": X, "y": np.array(["cat", "Cat"] * 20)}, "'Cat' and 'cat' differ by case or spaces alone"),
        ({"X": X, "y": np.array(["cat", " cat"] * 20)}, "differ by case or spaces alone"),
        ({"X": np.where(np.arange(40)[:, None] == 5, np.inf, X), "y": Y}, "the first in row 5, column 0"),
        (
            {"X": np.where(X[6, 2] == X, np.nan, X), "y": Y},
            r"has 1 values .* in row 6, column 2 \(counted from 0\)",
        ),
        ({"X": np.full((40, 1, 4, 4), -np.inf), "y": Y}, "the first in row 0"),
        (
            {"x_train": np.ones((4, 1, 5, 5)), "y_train": [0, 1, 0, 1]}
            | {"x_test": np.full((2, 1, 5, 5), 255.0), "y_test": [0, 1]},
            "x_train has values from 0 to 1, but x_test from 0 to 255: bring them to one scale",
        ),
        ({"X": np.arange(40)[:, None] + 2**60, "y": Y}, r"X holds \d+, beyond 2\^53, .*: subtract an offset"),
    ],
)
def test_nothing_is_passed_over_in_silence(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        load_npz(save(tmp_path / "own.npz", **arrays))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_one_hot_labels(tmp_path):
    for dtype in (np.int64, np.float32, bool):
        data = load_npz(
            save(tmp_path / "own.npz", X=X, y=np.eye(4, dtype=dtype)[Y]), val_fraction=0, test_fraction=0
        )
        np.testing.assert_array_equal(data.y_train, Y)
        assert data.classes == ("0", "1", "2", "3")


def test_single_letters_may_differ_by_case(tmp_path):
    assert load_npz(save(tmp_path / "own.npz", X=X[:4], y=list("aAbB"))).classes == ("A", "B", "a", "b")


def test_labels_beyond_2_to_the_31_and_below_0(tmp_path):
    path = save(tmp_path / "own.npz", X=X[:4], y=np.array([2**40, -5, 2**40, 2**62]))
    data = load_npz(path, val_fraction=0, test_fraction=0)
    assert (data.classes, data.y_train.tolist()) == (("-5", str(2**40), str(2**62)), [1, 0, 1, 2])


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_features_with_a_large_offset_keep_their_digits(tmp_path, dtype):
    """Times in seconds: two classes a few seconds apart."""
    seconds = (1_700_000_000 + np.arange(40) % 8).astype(dtype)
    path = save(tmp_path / "own.npz", X=np.column_stack([seconds, np.full(40, 3)]).astype(dtype), y=Y)
    data = load_npz(path, val_fraction=0, test_fraction=0)
    out = Standardize.from_data(data.x_train)(data.x_train)
    expected = np.arange(40) % 8
    np.testing.assert_allclose(out[:, 0], (expected - expected.mean()) / expected.std(), rtol=1e-6)
    assert (data.x_train.dtype, out.dtype) == (np.float64, np.float32)


def test_constant_features_do_not_make_the_others_wide(tmp_path):
    data = load_npz(save(tmp_path / "own.npz", X=np.column_stack([X, np.full(40, 1e9)]), y=Y))
    assert data.x_train.dtype == np.float32


def test_a_thousand_classes_are_described_in_a_line(tmp_path):
    y = np.arange(3000) % 1000
    data = load_npz(save(tmp_path / "own.npz", X=np.arange(3000.0)[:, None], y=np.append(y[:-1], 0)))
    assert data.describe() == (
        "own: 3,000 training, 0 validation, 0 test samples of 1 in 1,000 classes: "
        "0 4, 1 3, 2 3, …, 997 3, 998 3, 999 2"
    )


# -- binary20 ---------------------------------------------------------------------------------------------------

X20, Y20 = RNG.random((1000, 20)), RNG.integers(0, 2, 1000)


def test_binary20_split(tmp_path):
    save(tmp_path / "binary20.npz", X=X20, y=Y20)
    data = load_binary20(tmp_path)
    for part, rows in (("train", slice(0, 500)), ("val", slice(500, 750)), ("test", slice(750, 1000))):
        np.testing.assert_array_equal(getattr(data, f"x_{part}"), X20[rows].astype(np.float32))
        np.testing.assert_array_equal(getattr(data, f"y_{part}"), Y20[rows])
    assert (data.x_train.dtype, data.y_train.dtype, data.classes) == (np.float32, np.int64, ("0", "1"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X20[:999], "y": Y20}, r"got X float64 \(999, 20\)"),
        ({"X": X20, "y": Y20[:, np.newaxis]}, r"y int64 \(1000, 1\)"),
        ({"X": X20}, r"y of shape \(1000,\), got X"),
        ({}, "got neither"),
        ({"X": X20.astype(str), "y": Y20}, "floating-point X"),
        ({"X": X20, "y": Y20.astype(str)}, r"y <U\d+ \(1000,\)"),
        ({"X": X20, "y": Y20 + 1}, "labels 0 and 1"),
        ({"X": X20 * np.inf, "y": Y20}, "not finite"),
    ],
)
def test_binary20_that_does_not_fit(tmp_path, arrays, message):
    save(tmp_path / "binary20.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_binary20(tmp_path)
