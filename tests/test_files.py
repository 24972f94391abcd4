"""Files are whole or untouched, whatever happens while they are written."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pynn.files import WriteError, check_writable, open_regular, write_atomic, write_somewhere


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


# -- what a replaced file keeps -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o755, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o7777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write_atomic(path, b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 2345, 0o640)


def test_an_owner_that_cannot_be_kept_is_no_error(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o600)
    status = os.stat(path)

    def other(descriptor):
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:]))

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fstat", other)
    monkeypatch.setattr(os, "fchown", refuse)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


# -- writing --------------------------------------------------------------------------------------------------


def test_short_writes_go_on(tmp_path, monkeypatch):
    real, calls = os.write, []

    def short(descriptor, data):
        calls.append(len(data))
        return real(descriptor, data[:7])

    monkeypatch.setattr(os, "write", short)
    write_atomic(tmp_path / "f", bytes(range(50)))
    assert (tmp_path / "f").read_bytes() == bytes(range(50))
    assert len(calls) == 8


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "dup", "replace", "stat", "fstat", "fchmod"])
@pytest.mark.parametrize(("number", "reason"), [(5, "Input/output error"), (28, "No space left"), (122, "quota")])
def test_every_call_that_fails_keeps_the_old_file(tmp_path, monkeypatch, failing, number, reason):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(WriteError, match=rf"cannot write .*f: .*{reason}") as refusal:
            write_atomic(path, b"new")
    assert len(str(refusal.value)) < 300
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_of_nothing_is_an_error_not_a_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: 0)
    with pytest.raises(WriteError, match="nothing more can be written"):
        write_atomic(tmp_path / "f", b"new")
    assert os.listdir(tmp_path) == []


def test_the_folder_is_flushed_too(tmp_path, monkeypatch):
    real, flushed = os.fsync, []

    def fsync(descriptor):
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "f", b"new")
    assert flushed[-1] == str(tmp_path)
    assert len(flushed) == 2


def test_text_that_utf8_has_not(tmp_path):
    with pytest.raises(WriteError, match=r"the text has what UTF-8 has not: surrogates not allowed"):
        write_atomic(tmp_path / "f", "a\udc80")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: os.mkfifo(folder / "x"), "it is not a regular file"),
        (lambda folder: (folder / "x").symlink_to("x"), "Too many levels of symbolic links"),
        (lambda folder: (folder / "x").symlink_to("/dev/null"), "it is not a regular file"),
        (lambda folder: (folder / "x").symlink_to(folder), "it is not a regular file"),
        (lambda folder: (folder / "x").symlink_to("nowhere/y"), "No such file or directory"),
    ],
)
def test_targets_that_are_no_files(tmp_path, make, message):
    make(tmp_path)
    for write in (lambda path: write_atomic(path, b"new"), check_writable):
        with pytest.raises(WriteError, match=message):
            write(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("path", ["a\0b", "n" * 256, "", b"n" * 300])
def test_paths_that_no_file_can_have(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WriteError, match="cannot write"):
        write_atomic(path, b"new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, b"\xff\xfe", "a\nb", "ü.txt", "-", " "])
def test_names_of_any_kind(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    write_atomic(path, b"one")
    write_atomic(os.fsdecode(path), b"two")
    assert os.listdir(os.fsencode(tmp_path)) == [os.fsencode(name)]
    with open(path, "rb") as file:
        assert file.read() == b"two"


def test_a_name_in_a_message_is_one_printable_line(tmp_path):
    with pytest.raises(WriteError) as refusal:
        write_atomic(tmp_path / "no\nfolder\x1b[31m" / "\udcff", b"")
    assert str(refusal.value).isprintable()


# -- leftovers of writers that were killed --------------------------------------------------------------------


def killed_writer(path):
    script = (
        "import os, signal, sys; from pynn.files import write_atomic;"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); write_atomic(sys.argv[1], b'new')"
    )
    assert subprocess.run([sys.executable, "-c", script, path]).returncode == -9


@pytest.mark.parametrize("write", [lambda path: write_atomic(path, b"new"), check_writable])
def test_the_next_write_clears_leftovers_away(tmp_path, write):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    killed_writer(path)
    killed_writer(tmp_path / "other")
    assert len(os.listdir(tmp_path)) == 3
    write(path)
    left = sorted(os.listdir(tmp_path))
    assert left[1] == "f"
    assert left[0].startswith(".other.")  # that of another file is not this one's to clear


def test_what_is_no_leftover_stays(tmp_path):
    others = [
        ".f.tmp",
        ".f.xyz.tmp",
        "f.0123.tmp",
        ".f.0123456789abcdef.tmp~",
        ".ff.0123456789abcdef.tmp",
        ".f.01.TMP",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".f.0123456789abcdef.tmp").mkdir()
    write_atomic(tmp_path / "f", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, ".f.0123456789abcdef.tmp", "f"])


def test_a_living_writers_file_stays(tmp_path):
    held = tmp_path / ".f.0123456789abcdef.tmp"
    with open(held, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomic(tmp_path / "f", b"new")
        assert held.exists()
    write_atomic(tmp_path / "f", b"new")
    assert not held.exists()


def test_many_writers_of_one_file(tmp_path):
    errors = []

    def write(letter):
        try:
            for _ in range(40):
                write_atomic(tmp_path / "f", letter * 1000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["f"]
    assert (tmp_path / "f").read_bytes() in {letter * 1000 for letter in (b"a", b"b", b"c", b"d")}


# -- other places ---------------------------------------------------------------------------------------------


def test_written_where_it_was_asked_for(tmp_path):
    path = tmp_path / "f"
    assert write_somewhere(path, lambda p: write_atomic(p, b"new")) == (path, None)


def test_a_failed_final_write_finds_another_place(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "missing" / "model.safetensors"
    where, error = write_somewhere(path, lambda p: write_atomic(p, b"new"))
    assert where.parent == Path.cwd()
    assert where.name.startswith("model-")
    assert where.suffix == ".safetensors"
    assert where.read_bytes() == b"new"
    assert "missing" in str(error)


def test_a_home_that_is_not_there_is_passed_over(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(Path, "home", lambda: Path("/nowhere"))
    where, _ = write_somewhere(tmp_path / "missing" / "m", lambda p: write_atomic(p, b"new"))
    assert where.read_bytes() == b"new"
    where.unlink()


def test_no_place_at_all_is_the_first_error(tmp_path):
    def write(path):
        raise WriteError(f"cannot write {path}: No space left on device")

    with pytest.raises(WriteError, match=f"cannot write {tmp_path}/f: No space left on device"):
        write_somewhere(tmp_path / "f", write)


# -- reading --------------------------------------------------------------------------------------------------


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("f")
    os.mkfifo(tmp_path / "fifo")
    for name in ("f", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero", "a\0b"):
        with pytest.raises(FileNotFoundError, match="it is not a regular file"):
            open_regular(path)
    with pytest.raises(FileNotFoundError, match="No such file"):
        open_regular(tmp_path / "none")
