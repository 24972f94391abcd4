"""The IDX reader: what it reads, and the sentence for each way a file can be wrong."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from pynn.data import DataError
from pynn.data.idx import read_idx

ARRAY = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("array", [ARRAY, ARRAY[:, 0, 0], ARRAY[:0]], ids=["3 axes", "1 axis", "empty"])
def test_reads_what_was_written(tmp_path, idx_bytes, name, array):
    content = idx_bytes(array)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    read = read_idx(tmp_path / name, array.ndim)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.uint8
    assert read.shape == array.shape


def wrong(content: bytes, array=ARRAY) -> dict[str, tuple[bytes, str]]:
    return {
        "zero bytes": (b"", "ends within its header"),
        "half a header": (content[:9], "ends within its header"),
        "wrong magic": (b"\x00\x00\x0d\x03" + content[4:], "expected magic number 0x00000803"),
        "wrong rank": (b"\x00\x00\x08\x01" + content[4:], "got 0x00000801"),
        "cut off": (content[:-1], "claims 30 items"),
        "too long": (content + b"\x00", "claims 30 items, but it holds more"),
        "10^12 items": (
            struct.pack(">4I", 0x803, 10**4, 10**4, 10**4) + content[16:],
            "claims 1,000,000,000,000 items",
        ),
    }


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("case", wrong(b"").keys())
def test_wrong_files_are_named(tmp_path, idx_bytes, case, compressed):
    content, message = wrong(idx_bytes(ARRAY))[case]
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(caught.value).startswith(f"{path}: not a readable IDX file: ")
    assert str(caught.value).endswith(": get the file again")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [5, 20, -4, -8])
def test_truncated_gzip(tmp_path, idx_bytes, keep):
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(ARRAY))[:keep])
    with pytest.raises(DataError, match=r"images\.gz: not a readable IDX file"):
        read_idx(tmp_path / "images.gz", 3)


def test_no_gzip_behind_the_name(tmp_path, idx_bytes):
    (tmp_path / "images.gz").write_bytes(idx_bytes(ARRAY))
    with pytest.raises(DataError, match="Not a gzipped file"):
        read_idx(tmp_path / "images.gz", 3)


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: not a readable IDX file: Is a directory$"):
        read_idx(tmp_path, 3)


def test_memory_is_bounded_by_what_is_there(tmp_path):
    """A header may claim what its compressed size allows; memory still grows only with the real content."""
    filler = np.random.default_rng(0).bytes(100_000)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 100, 1000, 1000) + filler))
    tracemalloc.start()
    with pytest.raises(DataError, match="claims 100,000,000 items, but it holds only 100,000"):
        read_idx(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
