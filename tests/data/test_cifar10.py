"""CIFAR-10 from small synthetic batches, and pickles and archives that mean harm."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import time
import tracemalloc

import numpy as np
import pytest

from pynn.data import DataError, DataNotFound, load_cifar10
from pynn.data.tar import read_tar

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"


def pack(folder, archive, prefix=FOLDER, names=None):
    with tarfile.open(archive, "w:gz") as tar:
        for name in names or sorted(os.listdir(folder)):
            tar.add(folder / name, f"{prefix}/{name}")


def check(data, batches):
    """Rows in the order of the batches, the last tenth of the training rows for validation."""
    x = np.concatenate([x for x, _ in batches[:5]]).reshape(-1, 3, 32, 32)
    y = np.concatenate([y for _, y in batches[:5]])
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_val]), x)
    np.testing.assert_array_equal(np.concatenate([data.y_train, data.y_val]), y)
    np.testing.assert_array_equal(data.x_test, batches[5][0].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.y_test, batches[5][1])
    assert len(data.x_val) == 2
    assert data.x_train.dtype == np.uint8
    assert data.y_train.dtype == np.int64
    assert data.classes[:2] == ("airplane", "automobile")


@pytest.mark.parametrize("protocol", range(6))
def test_loads_pickles_of_every_protocol(tmp_path, write_cifar10, protocol):
    batches = write_cifar10(tmp_path / FOLDER, protocol=protocol)
    check(load_cifar10(tmp_path), batches)


def test_loads_arrays_in_fortran_order(tmp_path, write_cifar10, cifar_batch):
    batches = write_cifar10(tmp_path)
    _, x, y = cifar_batch(4, seed=7)
    for protocol in (2, 5):
        content = pickle.dumps({b"data": np.asfortranarray(x), b"labels": y}, protocol)
        (tmp_path / "test_batch").write_bytes(content)
        check(load_cifar10(tmp_path), [*batches[:5], (x, y)])


def test_loads_the_folder_itself(tmp_path, write_cifar10):
    batches = write_cifar10(tmp_path)
    check(load_cifar10(tmp_path), batches)


def test_loads_python_2_pickles(tmp_path, write_cifar10, cifar_batch):
    """As in the official archive: protocol 2, str for bytes, numpy.core names, the type code written as a str."""
    batches = write_cifar10(tmp_path)
    _, x, y = cifar_batch(4, seed=7)
    string = lambda s: b"T" + struct.pack("<I", len(s)) + s  # noqa: E731 - BINSTRING, which Python 3 never writes
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + string(b"b") + b"tR"
        b"(K\x01(K\x04M\x00\x0ct" + b"cnumpy\ndtype\n(" + string(b"u1") + b"K\x00K\x01tR"
        b"(K\x03"
        + string(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89"
        + string(x.tobytes())
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([k]) for k in y) + b"e"
    (tmp_path / "test_batch").write_bytes(
        b"\x80\x02}(" + string(b"data") + array + string(b"labels") + labels + b"u."
    )
    check(load_cifar10(tmp_path), [*batches[:5], (x, y)])


def test_loads_the_archive_and_extracts_nothing(tmp_path, write_cifar10):
    batches = write_cifar10(tmp_path / "source")
    (tmp_path / "data").mkdir()
    pack(tmp_path / "source", tmp_path / "data" / ARCHIVE)
    check(load_cifar10(tmp_path / "data"), batches)
    assert os.listdir(tmp_path / "data") == [ARCHIVE]


def test_missing(tmp_path, write_cifar10):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_3").unlink()
    with pytest.raises(DataNotFound, match="data_batch_1 to data_batch_5 and test_batch") as caught:
        load_cifar10(tmp_path)
    assert str(tmp_path) in str(caught.value)


# -- pickles ----------------------------------------------------------------------------------------------------


class Runs:
    """A pickle that calls `function(*arguments)` when loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def rows(**changes) -> bytes:
    return pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]} | changes)


MARKER = "executed"  # in the working directory, which is the test's own folder
HOSTILE = {
    "os.system": (pickle.dumps(Runs(os.system, f"touch {MARKER}")), r"asks for posix\.system"),
    "eval": (pickle.dumps({"data": Runs(eval, f"open({MARKER!r}, 'w')")}), r"asks for builtins\.eval"),
    "numpy.load": (pickle.dumps(Runs(np.load, MARKER)), r"asks for numpy\.load"),
    "objects": (rows(data=np.zeros((2, 3072), object)), "not of uint8"),
    "floats": (rows(data=np.zeros((2, 3072))), "not of uint8"),
    "persistent id": (b"\x80\x02X\x01\x00\x00\x00aQ.", "opcode 0x51 at byte 8 is none"),
    "extension": (b"\x80\x02\x82\x01.", "opcode 0x82 at byte 2 is none"),
    "claims 10^12 bytes": (
        b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b".",
        "claims 1,000,000,000,000 more bytes where 1 are left",
    ),
    "claims 2^32 objects": (b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".", "expected a dict, got NoneType"),
    "bytes(10^12)": (
        b"\x80\x03cbuiltins\nbytes\n\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85R.",
        "other arguments than NumPy does",
    ),
    "another codec": (
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
        "an encoding that is not latin1",
    ),
    "zero bytes": (b"", ""),
    "cut off": (rows()[:-100], ""),
    "no pickle": (b"P6 32 32 255\n", ""),
    "a list": (pickle.dumps([1, 2]), "expected a dict, got list"),
    "other keys": (pickle.dumps({"x": 1}), "expected 'data'"),
    "other width": (rows(data=np.zeros((2, 3071), np.uint8)), "expected 'data'"),
    "no rows": (rows(data=np.zeros((0, 3072), np.uint8), labels=[]), "expected 'data'"),
    "too few labels": (rows(labels=[1]), "list of 2 integers"),
    "label 10": (rows(labels=[1, 10]), "from 0 to 9"),
    "label of another type": (rows(labels=[1, "2"]), "from 0 to 9"),
    "too few pixels": (rows().replace(b"M\x00\x0c", b"M\x01\x0c"), "without the bytes for it"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_batch_is_refused_and_nothing_runs(tmp_path, monkeypatch, write_cifar10, content, message, packed):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / FOLDER
    write_cifar10(folder)
    (folder / "data_batch_2").write_bytes(content)
    if packed:
        folder = folder.rename(tmp_path / "source")
        pack(folder, tmp_path / ARCHIVE)
    tracemalloc.start()
    with pytest.raises(
        DataError, match=f"/data_batch_2: not a readable CIFAR-10 batch: .*{message}.*: get the file again$"
    ) as caught:
        load_cifar10(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not (tmp_path / MARKER).exists()
    assert "\n" not in str(caught.value)
    assert peak < 10_000_000


def test_the_hostile_pickles_would_run_with_pickle_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["os.system"][0])
    assert (tmp_path / MARKER).exists()


def nested(opcode: bytes, n: int) -> bytes:
    return b"\x80\x02})" + opcode * n + b"Ns."


EXPENSIVE = {
    "nested tuples as a key": (nested(b"\x85", 2_000_000), "more than 64 containers"),
    "nested lists": (b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".", "more than 64 containers"),
    "open groups": (b"\x80\x02" + b"(" * 1_000_000 + b".", "nested deeper than 64"),
    "doubling tuples": (b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 200_000 + b".", "more than 64 containers"),
    "a list that doubles": (b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 200_000 + b".", "opcodes"),
    "one text encoded again and again": (
        b"\x80\x02c_codecs\nencode\nq\x00X" + struct.pack("<I", 500_000) + b"a" * 500_000 + b"q\x01"
        b"X\x06\x00\x00\x00latin1q\x02" + b"h\x00h\x01h\x02\x86R" * 50_000 + b".",
        "encodes more text than it has",
    ),
    "a number of a million digits": (b"L" + b"9" * 1_000_000 + b"L\n.", "number of 1,000,000 digits"),
    "a long of 255 bytes": (b"\x80\x02\x8a\xff" + b"\xff" * 255 + b".", "number of 255 bytes"),
    "memo far away": (b"\x80\x02" + b"Nr\xff\xff\xff\xff0" * 100_000 + b".", "opcode 0x30"),
    "millions of opcodes": (b"\x80\x02" + b"N" * 3_000_000 + b".", "more than 262,144 opcodes"),
    "a shape of a million numbers": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(" + b"J\xff\xff\xff\x7f" * 100_000 + b"tNNNtb.",
        "not of uint8",
    ),
    "a shape of a million numbers, uint8": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01("
        + b"J\xff\xff\xff\x7f" * 100_000
        + b"tcnumpy\ndtype\nU\x02u1\x85RNU\x00tb.",
        "whose shape is none",
    ),
    "a negative shape": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"
        b"cnumpy\ndtype\nU\x02u1\x85RNU\x01atb.",
        "without the bytes",
    ),
    "an empty stack": (b"\x80\x02.", "empty stack"),
    "below a mark": (b"\x80\x02N(0\x85.", "opcode 0x30|empty stack"),
    "no mark": (b"\x80\x02Nt.", "never began"),
    "recalled before it was made": (b"\x80\x02h\x07.", "recalls object 7"),
    "a list as a key": (b"\x80\x02}]Ns.", "keys that are no strings"),
    "odd items": (b"\x80\x02}(U\x01au.", "what is no dict"),
    "an item of a number": (b"\x80\x02K\x01U\x01aNs.", "what is no dict"),
    "appended to a number": (b"\x80\x02K\x01Na.", "what is no list"),
    "a call of a number": (b"\x80\x02K\x01)R.", "no function"),
    "the state of a list": (b"\x80\x02]Nb.", "no array"),
    "an array without content": (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\n)RU\x06labels]u.",
        "expected 'data'",
    ),
    "a name with control characters": (b"\x80\x02cos\x1b[2J\nsystem\n.", "asks for os"),
}


@pytest.mark.parametrize(("content", "message"), EXPENSIVE.values(), ids=EXPENSIVE.keys())
def test_small_pickles_that_would_take_much_are_refused_at_once(tmp_path, write_cifar10, content, message):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(content)
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(DataError, match=f"data_batch_1: not a readable CIFAR-10 batch: .*{message}") as caught:
        load_cifar10(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 4 * len(content) + 10_000_000
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


# -- archives ---------------------------------------------------------------------------------------------------


def write_tar(path, members: list[tarfile.TarInfo], content=b"x"):
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))


def link(name, kind, target) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "data_batch_1"),
        ([tarfile.TarInfo("../data_batch_1")], "data_batch_1"),
        ([tarfile.TarInfo("/etc/data_batch_1")], "data_batch_1"),
        ([link(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd")], "data_batch_1 is no plain file"),
        ([link(f"{FOLDER}/data_batch_1", tarfile.LNKTYPE, "../../secret")], "data_batch_1 is no plain file"),
        ([link(f"{FOLDER}/data_batch_1", tarfile.DIRTYPE, "")], "data_batch_1 is no plain file"),
        ([tarfile.TarInfo(f"{FOLDER}/data_batch_1")], "data_batch_1"),
    ],
    ids=["empty", "traversal", "absolute", "symlink", "hard link", "folder", "no pickle"],
)
def test_hostile_archive_is_refused_and_writes_nothing(tmp_path, members, message):
    folder = tmp_path / "data"
    folder.mkdir()
    write_tar(folder / ARCHIVE, members)
    with pytest.raises(DataError, match=message):
        load_cifar10(folder)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["data", ARCHIVE]


@pytest.mark.parametrize("keep", [0, 3, 50, -10])
def test_truncated_archive(tmp_path, write_cifar10, keep):
    write_cifar10(tmp_path / "source")
    pack(tmp_path / "source", tmp_path / ARCHIVE)
    (tmp_path / ARCHIVE).write_bytes((tmp_path / ARCHIVE).read_bytes()[:keep])
    with pytest.raises(DataError, match=f"{ARCHIVE}: not a readable CIFAR-10 archive: .*: get the file again$"):
        load_cifar10(tmp_path)


def test_archive_that_unpacks_to_too_much(tmp_path, write_cifar10, monkeypatch):
    monkeypatch.setattr("pynn.data.cifar10._MAX_TAR", 50_000)
    write_cifar10(tmp_path / "source")
    pack(tmp_path / "source", tmp_path / ARCHIVE)
    with pytest.raises(DataError, match="unpacks to more than 50,000 bytes"):
        load_cifar10(tmp_path)


def test_batch_that_is_too_large(tmp_path, write_cifar10, monkeypatch):
    monkeypatch.setattr("pynn.data.cifar10._MAX_BATCH", 10_000)
    write_cifar10(tmp_path)
    with pytest.raises(DataError, match=r"data_batch_1: .*more than 10,000 bytes"):
        load_cifar10(tmp_path)


def test_members_that_are_none_of_the_batches_are_read_over(tmp_path, write_cifar10):
    batches = write_cifar10(tmp_path / "source")
    (tmp_path / "source" / ("x" * 150)).write_bytes(b"a name that takes a member of its own" * 100)
    pack(tmp_path / "source", tmp_path / ARCHIVE)
    check(load_cifar10(tmp_path), batches)


def test_an_archive_in_the_gnu_format(tmp_path, write_cifar10):
    batches = write_cifar10(tmp_path / "source")
    with tarfile.open(tmp_path / ARCHIVE, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        tar.add(tmp_path / "source", FOLDER)
    check(load_cifar10(tmp_path), batches)


def tar_of(members: dict[str, int], total: int = 1) -> bytes:
    """Headers with names and sizes, each repeated `total` times, without content."""
    headers = []
    for name, size in members.items():
        info = tarfile.TarInfo(name)
        info.size = size
        headers.append(info.tobuf(tarfile.USTAR_FORMAT))
    return b"".join(headers) * total


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of({"a": 0}, 500_000), "more than 1,000 members"),
        (tar_of({"a": (8 << 30) - 1}), "ends within a"),
        (tar_of({f"{FOLDER}/data_batch_1": 1 << 27}), "has more than 67,108,864 bytes"),
        (tar_of({f"{FOLDER}/data_batch_1": 1000}), "ends within"),
        (tar_of({"a": 1000}), "ends within a"),
        (bytes((1 << 28) + 1), "unpacks to more than"),
        (b"x" * 512, "header"),
        (tar_of({"a": 0})[:300], "ends within a header"),
        (b"", "lacks"),
    ],
    ids=["members", "large", "large batch", "cut", "cut other", "zeros", "no tar", "cut header", "empty"],
)
def test_archives_that_would_take_much_are_refused_at_once(tmp_path, content, message):
    with gzip.open(tmp_path / ARCHIVE, "wb", compresslevel=1) as stream:
        stream.write(content)
    del content
    start = time.process_time()
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        load_cifar10(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 10_000_000
    assert len(str(caught.value)) < 300


def test_a_batch_that_is_there_twice():
    members = read_tar(io.BytesIO(tar_of({"a": 0, "b": 0}) + tar_of({"a": 0})), {"a"}, 10, 10_000)
    assert next(members) == ("a", b"")
    with pytest.raises(ValueError, match="holds a twice"):
        next(members)


def test_many_empty_gzip_members(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(b"") * 100_000)
    with pytest.raises(DataError, match="more than 1,000 gzip members"):
        load_cifar10(tmp_path)
