"""Processes in surroundings that are wrong or broken: told in a sentence, without a traceback, nothing lost."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import python

from pynn.cli import main, streams
from pynn.cli.errors import sentence
from pynn.io import load

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full: /dev/full")


def shell(command: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
    """`command` in a shell, in which `pynn` is this one's and "$1", "$2" … are `arguments`."""
    code = f'pynn() {{ "{sys.executable}" -m pynn "$@"; }}\n{command}'
    return subprocess.run(
        ["sh", "-c", code, "sh", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        env=os.environ | environment,
    )


def test_an_instruction_set_that_is_not_there_is_told_where_a_name_is_used():
    """The import itself stands, so that the command line can say it too."""
    wrong = os.environ | {"PYNN_ISA": "sse9"}
    assert python("-c", "import pynn, pynn.cli; pynn.__version__", env=wrong).returncode == 0
    for code in ("import pynn; pynn.Solver", "from pynn import Solver", "from pynn import *"):
        failed = python("-c", code, env=wrong)
        assert failed.returncode == 1
        assert "ImportError: PYNN_ISA is 'sse9', but this processor runs " in failed.stderr


@pytest.mark.parametrize("arguments", ["info", "predict m x", "train x --out m"])
def test_the_command_line_says_it_in_a_sentence(arguments):
    told = python("-m", "pynn", *arguments.split(), env=os.environ | {"PYNN_ISA": "sse9"})
    assert told.returncode == 2
    assert told.stderr.startswith("pynn: error: PYNN_ISA is 'sse9', but this processor runs ")
    assert told.stderr.count("\n") == 1


# -- streams ------------------------------------------------------------------------------------------------

TRAIN = 'pynn train "$1" --out "$2" --epochs 1'
FULL = b"pynn: error: standard output cannot be written: No space left on device"


@needs_full
def test_a_model_outlives_full_streams(features, tmp_path):
    model = tmp_path / "model"
    failed = shell(f"{TRAIN} >/dev/full", features[0], model)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1] == FULL + f"; the model is {model}".encode()
    assert load(model)
    model.unlink()
    assert shell(f"{TRAIN} 2>/dev/full", features[0], model).returncode == 0
    assert load(model)
    model.unlink()
    assert shell(f"{TRAIN} >/dev/full 2>/dev/full", features[0], model).returncode == 2
    assert load(model)


def test_a_model_outlives_closed_streams(features, tmp_path):
    model = tmp_path / "model"
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        ended = shell(f"{TRAIN} {closed}", features[0], model)
        assert ended.returncode == 0
        assert b"Traceback" not in ended.stderr
        assert load(model)
        model.unlink()
    said = shell(f"{TRAIN} 2>&-", features[0], model).stdout
    assert b"epoch" not in said  # what was for the closed stream is not on the other


@needs_full
@pytest.mark.parametrize(
    ("command", "unbuffered"), [("info", "1"), ("--help", ""), ("--version", "1"), ("predict $1 $2", "")]
)
def test_results_that_cannot_be_written_are_an_error(model_file, command, unbuffered):
    failed = shell(f"pynn {command} >/dev/full", *model_file, PYTHONUNBUFFERED=unbuffered)
    assert failed.returncode == 2
    assert failed.stderr == FULL + b"\n"


def test_predictions_for_nobody_are_refused(model_file):
    failed = shell('pynn predict "$1" "$2" >&-', *model_file)
    assert (failed.returncode, failed.stderr) == (
        2,
        b"pynn: error: standard output is closed: give --out CSV\n",
    )


def test_a_reader_that_is_gone_is_no_error(model_file):
    for command in ("info", "--help", "predict $1 $2"):
        ended = shell(f"(sleep 0.1; pynn {command}; echo $? >&2) | true", *model_file)
        assert ended.stderr == b"0\n"


def test_what_is_opened_does_not_get_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os; from pynn.cli.streams import usable_streams\n"
        "with usable_streams(): raise SystemExit(os.open('.', 0) < 3)"
    )
    assert shell(f'"{sys.executable}" -c "{code}" <&- >&- 2>&-; echo $?').stdout == b"0\n"


def test_streams_are_afterwards_what_they_were(capsys):
    before = sys.stdout, sys.stderr, sys.stdout.errors
    assert main(["info"]) == 0
    assert (sys.stdout, sys.stderr, sys.stdout.errors) == before


# -- characters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b"3x3 - 5^2 +-1 \\u6c34 caf\\xe9\n"),
        ("cp1252", b"3\xd73 \x96 5\xb2 \xb11 \\u6c34 caf\xe9\n"),
        ("utf-8", "3×3 – 5² ±1 水 café\n".encode()),
    ],
)
def test_every_character_gets_through_any_encoding(encoding, written, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    with streams.usable_streams():
        print("3×3 – 5² ±1 水 café")
    assert raw.getvalue() == written


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "no-such-locale"},
    ],
    ids=str,
)
def test_names_of_any_bytes_are_told_and_predicted_in_any_encoding(tmp_path, environment):
    """Classes with characters that the encoding lacks, and a folder whose name is no UTF-8."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=rng.normal(size=(40, 2)), y=np.array(["水", "×"])[np.arange(40) % 2])
    os.rename(tmp_path / "d.npz", folder + b"/d.npz")
    names = [os.fsdecode(folder + name) for name in (b"/d.npz", b"/m", b"/t.csv")]
    options = {"env": os.environ | environment, "encoding": "utf-8", "errors": "replace"}
    train = python("-m", "pynn", "train", names[0], "--out", names[1], "--epochs", "1", **options)
    assert train.returncode == 0, train.stderr
    assert "caf\\xe9/m." in train.stdout
    predict = python("-m", "pynn", "predict", *names[1::-1], "--out", names[2], **options)
    assert predict.returncode == 0, predict.stderr
    assert Path(names[2]).read_text("utf-8").splitlines()[1].split(",")[1] in {"水", "×"}
    assert python("-m", "pynn", "predict", *names[1::-1], **options).returncode == 0
    refused = python("-m", "pynn", "predict", names[0], names[1] + "\x1b[31m\n", **options)
    assert refused.returncode == 2
    assert refused.stderr.rstrip("\n").isprintable()
    assert refused.stderr.count("\n") == 1


# -- places -------------------------------------------------------------------------------------------------


def test_a_present_folder_that_is_gone_is_told(features, tmp_path):
    (tmp_path / "gone").mkdir()
    command = 'cd "$3" && rmdir "$3" && pynn train "$1" --out "$2" --epochs 1'
    assert shell(command, features[0], tmp_path / "model", tmp_path / "gone").returncode == 0
    (tmp_path / "gone").mkdir()
    failed = shell(command, features[0], "model", tmp_path / "gone")
    assert failed.returncode == 2
    assert failed.stderr.endswith(b"pynn: error: the present folder is gone: change to another one\n")


def test_places_that_are_not_there_matter_to_nobody(model_file):
    nowhere = dict.fromkeys(("HOME", "TMPDIR", "PYNN_DATA", "MPLCONFIGDIR", "XDG_CACHE_HOME", "COLUMNS"), "/none")
    for command in ("info", "predict $1 $2", "train --help"):
        assert shell(f"pynn {command}", *model_file, **nowhere).returncode == 0


def test_a_umask_that_forbids_everything_still_leaves_the_model(features, tmp_path):
    assert shell(f"umask 777; {TRAIN}", features[0], tmp_path / "model").returncode == 0
    (tmp_path / "model").chmod(0o600)
    assert load(tmp_path / "model")


# -- sentences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a\nb"), "a b: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "the present folder is gone: change to another one"),
        (MemoryError(), "not enough memory: use less data or a smaller model"),
        (MemoryError("no 9 TiB"), "not enough memory: no 9 TiB; use less data or a smaller model"),
        (ValueError("expected 2×2 pixels: give image_size"), "expected 2×2 pixels: give --image-size"),
        (ValueError("image_size=3 is wrong"), "--image-size 3 is wrong"),
        (ValueError("in my_image_size, image_sizes"), "in my_image_size, image_sizes"),
        (ValueError("a\x1b[31mb\ud800\udcff"), "a\\x1b[31mb\\ud800\\xff"),
    ],
)
def test_sentences_are_one_printable_line_in_the_words_of_the_command_line(error, said):
    assert sentence(error) == said


def test_sentences_are_bounded():
    assert len(sentence(ValueError("x" * 10**6))) < 287
