"""CIFAR-10 from small synthetic batches, and pickles and archives that mean harm."""

import io
import os
import pickle
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest

from pynn.data import DataError, DataNotFound, load_cifar10

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
    with pytest.raises(DataNotFound, match="data_batch_3") as caught:
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
    "persistent id": (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
    "extension": (b"\x80\x02\x82\x01.", "extension"),
    "claims 10^12 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b".", "expected 1000000000000 bytes"),
    "claims 2^32 objects": (b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b".", "claims more than"),
    "bytes(10^12)": (b"\x80\x03cbuiltins\nbytes\n\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85R.", "_empty_bytes"),
    "another codec": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.", "encoding 'zip'"),
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
        ([link(f"{FOLDER}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd")], "data_batch_1|passwd"),
        ([link(f"{FOLDER}/data_batch_1", tarfile.LNKTYPE, "../../secret")], "secret"),
        ([link(f"{FOLDER}/data_batch_1", tarfile.DIRTYPE, "")], "data_batch_1 is no file"),
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
