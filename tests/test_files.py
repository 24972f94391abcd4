"""Files are whole or untouched, whatever happens while they are written."""

import os
import subprocess
import sys

import pytest

from pynn.files import WriteError, check_writable, write_atomic


def test_writes_bytes_and_text(tmp_path):
    write_atomic(tmp_path / "a.bin", b"\x00\xff\r\n")
    write_atomic(str(tmp_path / "b.txt"), "∂L/∂x\n")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff\r\n"
    assert (tmp_path / "b.txt").read_bytes() == "∂L/∂x\n".encode()
    assert sorted(os.listdir(tmp_path)) == ["a.bin", "b.txt"]


def test_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"old" * 1000)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_an_error_keeps_the_old_file_and_no_other(tmp_path, monkeypatch, failing):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(
        WriteError, match=r"cannot write .*f: No space left on device; choose a path in an existing"
    ):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_an_interrupt_keeps_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_leaves_the_old_file_whole(tmp_path, moment):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    script = (
        "import os, signal, sys; from pynn.files import write_atomic;"
        f"os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL);"
        "write_atomic(sys.argv[1], b'new')"
    )
    assert subprocess.run([sys.executable, "-c", script, path]).returncode == -9
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, b"new"), check_writable])
def test_refuses_in_a_sentence(tmp_path, write):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WriteError, match=r"cannot write .*missing/f: No such file or directory"):
        write(tmp_path / "missing" / "f")
    with pytest.raises(WriteError, match=r"cannot write .*file/f: Not a directory"):
        write(tmp_path / "file" / "f")
    with pytest.raises(WriteError, match="it is not a regular file"):
        write(tmp_path)
    with pytest.raises(WriteError, match="it is not a regular file"):
        write("/dev/null")
    assert os.listdir(tmp_path) == ["file"]


def test_check_writable_leaves_the_folder_as_it_was(tmp_path):
    check_writable(tmp_path / "new")
    (tmp_path / "old").write_bytes(b"kept")
    check_writable(tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"kept"
