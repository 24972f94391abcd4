"""The IDX reader: what it reads, and the sentence for each way a file can be wrong."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pynn.data import DataError
from pynn.data.idx import idx_shape, read_idx

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
        "too long": (content + b"\x00", "claims 30 items, but it holds (more|31)"),
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
    with pytest.raises(DataError, match="no gzip file"):
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


def test_plain_sizes_are_compared_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pynn.data.idx.read_at_most", lambda stream, n: stream.read({16: n}[n]))
    path = tmp_path / "images"
    path.write_bytes(struct.pack(">4I", 0x803, 2, 3, 5) + bytes(31))
    with pytest.raises(DataError, match="claims 30 items, but it holds 31"):
        read_idx(path, 3)


def test_the_shape_is_known_without_decompressing(tmp_path, idx_bytes):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(ARRAY) + bytes(10)))
    assert idx_shape(path, 3) == (2, 3, 5)


def test_several_gzip_members_and_padding(tmp_path, idx_bytes):
    content = idx_bytes(ARRAY)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content[:20]) + bytes(7) + gzip.compress(content[20:]) + bytes(3))
    np.testing.assert_array_equal(read_idx(path, 3), ARRAY)


def test_a_wrong_checksum(tmp_path, idx_bytes):
    content = bytearray(gzip.compress(idx_bytes(ARRAY)))
    content[-6] ^= 1
    (tmp_path / "images.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"no gzip file, or damaged \(.*incorrect data check\)"):
        read_idx(tmp_path / "images.gz", 3)


def test_large_images_come_in_pieces(tmp_path, idx_bytes):
    """More than a piece of the compressed and of the decompressed stream, with output that waits for no input."""
    x = np.random.default_rng(0).integers(0, 256, (1200, 28, 28)).astype(np.uint8)
    x[600:] = 0
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx_bytes(x)))
    np.testing.assert_array_equal(read_idx(tmp_path / "images.gz", 3), x)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_fifo_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / "link").symlink_to(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link"):
        with pytest.raises(DataError, match="it is a FIFO, not a regular file"):
            read_idx(path, 3)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_not_opened():
    with pytest.raises(DataError, match="zero: not a readable IDX file: it is a device, not a regular file"):
        read_idx(Path("/dev/zero"), 3)


def test_memory_that_is_not_there_is_called_so(tmp_path, idx_bytes, monkeypatch):
    def read(stream, n):
        raise MemoryError

    monkeypatch.setattr("pynn.data.idx.read_at_most", read)
    (tmp_path / "a").write_bytes(idx_bytes(ARRAY))
    with pytest.raises(DataError, match="there is not enough memory to read this IDX file"):
        read_idx(tmp_path / "a", 3)
