"""`pynn run` and `pynn report`: what they write, and one sentence for whatever is wrong."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import refusal
from report_rows import rows

import cnn_ext
from pynn import experiments
from pynn.cli import main
from pynn.data import DataError
from pynn.experiments.work import TimeIsUp
from pynn.solver import TrainingDiverged

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


def question(*answers, calls=None):
    """A module as in QUESTIONS, whose run gives rows, or raises exceptions, at once."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        epochs: int = 10

        @classmethod
        def quick(cls):
            return cls(epochs=1)

    def run(config, *, data, seed=0, on_row=None, work=None):
        if calls is not None:
            calls.append((config.epochs, data.name, seed))
        for answer in answers:
            if not isinstance(answer, dict):
                raise answer
            on_row(answer)

    return SimpleNamespace(DATA="breast-cancer", Config=Config, run=run)


def row(number: str, **changes) -> dict:
    """A row without plots: quick to draw."""
    made = next(row for row in rows() if row["question"] == "2.3")
    config = {
        "hidden_sizes": (10, 100),
        "linear": {"lr": np.float32(0.5)},
    }  # as experiments have it, not as JSON has
    return made | {"question": number, "search": [], "history": {}, "confusion": None, "config": config} | changes


@pytest.fixture
def ask(monkeypatch):
    def register(**questions):
        monkeypatch.setattr(experiments, "QUESTIONS", questions)

    register(q2=question(row("2.3"), row("2.4")), q3=question(row("3.3")))
    return register


def last_line(capsys) -> str:
    """The last of stderr's lines; those before it are of the work."""
    return capsys.readouterr().err.splitlines()[-1]


def results(folder) -> list[dict]:
    return json.loads((folder / "results.json").read_text())


def test_run_writes_results_and_report_and_prints_a_table(ask, tmp_path, capsys):
    embedded = row("3.3", origin="embedded", dataset="breast cancer", chosen={})
    ask(q2=question(row("2.3", seconds=1.25)), q3=question(embedded))
    assert main(["run", "q3", "q2", "--out", str(tmp_path / "new" / "out")]) == 0
    out = capsys.readouterr().out
    assert [made["question"] for made in results(tmp_path / "new" / "out")] == ["2.3", "3.3"]
    page = (tmp_path / "new" / "out" / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["question", "data", "reported", "target", "ours", "seconds", "chosen"]
    assert lines[1][:9] == ["2.3", "binary20", "93.60", "%", "93.60", "%", "94.40", "%", "1.2"]
    assert lines[2][:7] == ["3.3", "breast", "cancer", "(embedded)", "–", "–", "94.40"]
    assert str(tmp_path / "new" / "out" / "report.html") in out


def test_run_hands_its_options_to_the_experiment(ask, tmp_path):
    calls = []
    ask(q2=question(row("2.3"), calls=calls), q3=question(row("3.3"), calls=calls))
    common = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["run", "all", "--quick", "--seed", "7", *common]) == 0
    assert main(["run", "q2", *common]) == 0
    name = "breast cancer Wisconsin"
    assert calls == [(1, name, 7), (1, name, 7), (10, name, 0)]
    assert [(made["question"], made["quick"], made["seed"]) for made in results(tmp_path / "out")] == [
        ("2.3", False, 0),
        ("3.3", True, 7),
    ]


def test_run_sets_the_threads(ask, tmp_path):

    before = cnn_ext.get_num_threads()
    try:
        assert main(["run", "q2", "--threads", "1", "--out", str(tmp_path)]) == 0
        assert cnn_ext.get_num_threads() == 1
    finally:
        cnn_ext.set_num_threads(before)


def test_run_again_replaces_its_rows_and_keeps_the_others(ask, tmp_path):
    assert main(["run", "all", "--out", str(tmp_path)]) == 0
    ask(q2=question(row("2.3", title="again"), row("2.4", title="again")), q3=question())
    assert main(["run", "q2", "--out", str(tmp_path)]) == 0
    titles = {made["question"]: made["title"] for made in results(tmp_path)}
    assert titles == {"2.3": "again", "2.4": "again", "3.3": "Logistic regression, linear"}
    page = (tmp_path / "report.html").read_text()
    assert page.count("<h2><span") == 3


def test_interrupt_keeps_what_is_finished(ask, tmp_path, capsys):
    ask(q2=question(row("2.3"), KeyboardInterrupt()), q3=question(row("3.3")))
    assert main(["run", "all", "--out", str(tmp_path)]) == 130
    assert [made["question"] for made in results(tmp_path)] == ["2.3"]
    assert ">2.3</span>" in (tmp_path / "report.html").read_text()
    out, err = capsys.readouterr()
    assert out == ""
    said = err.splitlines()[-1]
    assert said.startswith("pynn: interrupted: 2.3 finished and is in ")
    assert said.endswith("; the same command with --resume goes on")
    assert len(said) < 300


def test_interrupt_before_any_row_changes_nothing(ask, tmp_path, capsys):
    assert main(["run", "q2", "--out", str(tmp_path)]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ask(q2=question(KeyboardInterrupt()))
    assert main(["run", "q2", "--out", str(tmp_path)]) == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert last_line(capsys).startswith("pynn: interrupted: no question finished")


@pytest.fixture
def usual_interrupt():
    """SIGINT as in a shell's foreground, whatever it is where the tests run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_interrupt_while_the_report_is_drawn_lets_it_be_drawn(ask, tmp_path, capsys, monkeypatch, usual_interrupt):
    from pynn.cli import questions

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        draw(*arguments)

    draw = questions.write_report
    monkeypatch.setattr(questions, "write_report", interrupted)
    assert main(["run", "q2", "--out", str(tmp_path)]) == 0
    assert ">2.3</span>" in (tmp_path / "report.html").read_text()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_while_the_report_is_drawn_says_how_to_draw_it(
    ask, tmp_path, capsys, monkeypatch, usual_interrupt
):
    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("pynn.cli.questions.write_report", interrupted)
    assert main(["run", "q2", "--out", str(tmp_path)]) == 130
    assert results(tmp_path)
    said = last_line(capsys)
    assert said.startswith("pynn: interrupted: ")
    assert "results.json has every question that finished, `pynn report " in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_nobody_explains_is_one_word(ask, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pynn.cli.run_folder.read_rows", interrupted)
    (tmp_path / "results.json").write_text("[]")
    assert main(["run", "q2", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "pynn: interrupted\n"


def test_control_c_ends_the_process_with_130(tmp_path):
    code = (
        "import signal, time\nfrom types import SimpleNamespace\n"
        "from pynn import experiments\nfrom pynn.cli import main\n"
        # a shell starts its background jobs, and all that these start, with SIGINT ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def run(config, **options):\n    print('started', flush=True)\n    time.sleep(60)\n"
        "experiments.QUESTIONS = {'q2': SimpleNamespace(DATA='digits', Config=SimpleNamespace, run=run)}\n"
        f"raise SystemExit(main(['run', 'q2', '--out', {str(tmp_path)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1].startswith("pynn: interrupted: no question finished")


@pytest.mark.parametrize(
    "error",
    [
        DataError("train-images: not a readable gzip file"),
        TrainingDiverged(3, "the loss is nan", "0.weight", 0.1, None),
        OSError(28, "No space left on device", "results.json"),
        ImportError("model files need safetensors"),
        MemoryError("Unable to allocate 9 TiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_in_an_experiment_is_one_sentence_and_keeps_the_rows(ask, tmp_path, capsys, error):
    ask(q2=question(row("2.3"), error))
    assert main(["run", "q2", "--out", str(tmp_path)]) == 2
    assert last_line(capsys).startswith("pynn: error: ")
    assert [made["question"] for made in results(tmp_path)] == ["2.3"]
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), ImportError("a bug", name="pynn.x")])
def test_bug_keeps_its_traceback(ask, tmp_path, error):
    ask(q2=question(error))
    with pytest.raises(type(error), match="a bug"):
        main(["run", "q2", "--out", str(tmp_path)])


@pytest.mark.parametrize(("asked", "meant"), [("Q2", "q2"), ("2", "q2"), ("q33", "q3"), ("3.3", "q3")])
def test_unknown_question_is_answered_with_a_suggestion(ask, capsys, tmp_path, asked, meant):
    said = refusal(capsys, "run", "q2", asked, "--out", tmp_path / "out")
    assert f"did you mean {meant}?" in said
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_refused_and_kept(ask, capsys, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file: give a folder" in refusal(capsys, "run", "q2", "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_out_below_a_file_is_refused(ask, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "out"
    expected = f"--out {out} cannot be made: Not a directory; choose a folder where you may write"
    assert refusal(capsys, "run", "q2", "--out", out) == expected


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to: /proc")
def test_folder_that_cannot_be_written_is_refused_before_any_work(ask, capsys):
    calls = []
    ask(q2=question(row("2.3"), calls=calls))
    assert "cannot write" in refusal(capsys, "run", "q2", "--out", "/proc/self")
    assert not calls


def test_missing_data_folder_is_refused_before_any_work(ask, capsys, tmp_path):
    said = refusal(capsys, "run", "q2", "--data-dir", tmp_path / "none", "--out", tmp_path / "out")
    assert f"--data-dir {tmp_path / 'none'} is not a folder" in said
    assert not (tmp_path / "out").exists()


def test_results_of_something_else_are_refused_and_kept(ask, capsys, tmp_path):
    (tmp_path / "results.json").write_text('{"mine": 1}')
    assert "expected a list of rows" in refusal(capsys, "run", "q2", "--out", tmp_path)
    assert (tmp_path / "results.json").read_text() == '{"mine": 1}'


def test_missing_matplotlib_is_told_before_any_work(ask, capsys, tmp_path, monkeypatch):
    calls = []
    ask(q2=question(row("2.3"), calls=calls))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "pynn-cnn[report]"' in refusal(capsys, "run", "q2", "--out", tmp_path)
    assert not calls


def test_data_folder_without_the_set_is_refused_before_any_work(ask, capsys, tmp_path):
    calls = []
    asked = question(row("2.3"), calls=calls)
    asked.DATA = "mnist"
    ask(q2=question(row("2.4"), calls=calls), q3=asked)
    (tmp_path / "data").mkdir()
    assert main(["run", "all", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 2
    assert last_line(capsys).startswith("pynn: error: ")
    assert not calls


def test_what_is_trained_on_is_told_first(ask, capsys, tmp_path):
    assert main(["run", "all", "--out", str(tmp_path)]) == 0
    counts = "343 training, 113 validation, 113 test samples of 2 classes"
    expected = [f"{name}  breast cancer Wisconsin (embedded): {counts}" for name in ("q2", "q3")]
    assert [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()] == [
        " ".join(line.split()) for line in expected
    ]


def test_out_is_never_where_the_data_are(ask, capsys, tmp_path):
    data = tmp_path / "data"
    (data / "cifar-10-batches-py").mkdir(parents=True)
    (data / "cifar-10-batches-py" / "data_batch_1").write_text("data")
    (tmp_path / "link").symlink_to(data)
    for out in (data, tmp_path / "link", data / "cifar-10-batches-py", tmp_path / "link" / "cifar-10-batches-py"):
        assert "is where the data are" in refusal(capsys, "run", "q2", "--data-dir", data, "--out", out)
    assert main(["run", "q2", "--data-dir", str(data), "--out", str(data / "new")]) == 0


@pytest.mark.parametrize("name", ["report.html", "timings.json", "work"])
def test_files_of_somebody_else_are_refused_and_kept(ask, capsys, tmp_path, name):
    (tmp_path / name).write_text("mine")
    assert str(tmp_path / name)[:20] in refusal(capsys, "run", "q2", "--out", tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_page_that_cannot_be_drawn_loses_nothing(ask, capsys, tmp_path, monkeypatch):
    def failing(*arguments):
        raise RuntimeError("no font\nat all")

    monkeypatch.setattr("pynn.cli.questions.write_report", failing)
    assert main(["run", "q2", "--out", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("question")
    said = err.splitlines()[-1]
    assert said.startswith("pynn: error: the page was not drawn (RuntimeError: no font at all); ")
    assert "`pynn report " in said
    assert [made["question"] for made in results(tmp_path)] == ["2.3", "2.4"]


def test_full_disk_loses_no_row(ask, capsys, tmp_path, monkeypatch):
    from pynn.cli import run_folder

    def full(path, rows):
        if path.parent == tmp_path / "out":
            raise OSError(28, "No space left on device", str(path))
        write(path, rows)

    write = run_folder.write_rows
    assert main(["run", "q3", "--out", str(tmp_path / "out")]) == 0
    before = (tmp_path / "out" / "results.json").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(run_folder, "write_rows", full)
    monkeypatch.setattr(run_folder.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "elsewhere"))
    assert main(["run", "q2", "--out", str(tmp_path / "out")]) == 2
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    assert [made["question"] for made in results(tmp_path / "elsewhere")] == ["2.3", "2.4", "3.3"]
    said = last_line(capsys)
    assert "No space left on device; the results are in " in said
    assert len(said) < 300


def test_time_limit_ends_a_run_as_an_interrupt_does(ask, capsys, tmp_path):
    ask(q2=question(row("2.3"), TimeIsUp()))
    assert main(["run", "q2", "--time-limit", "5", "--out", str(tmp_path)]) == 130
    said = last_line(capsys)
    assert said.startswith("pynn: interrupted: the time limit of 5 s is reached, 2.3 finished and is in ")
    assert said.endswith("; the same command with --resume goes on")
    assert ">2.3</span>" in (tmp_path / "report.html").read_text()


# -- report ---------------------------------------------------------------------------------------------------


def test_report_is_drawn_again_from_the_results_alone(ask, tmp_path, capsys):
    assert main(["run", "q2", "--out", str(tmp_path)]) == 0
    before = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_bytes() == before


def test_report_without_results_is_refused(capsys, tmp_path):
    assert "results.json does not exist" in refusal(capsys, "report", tmp_path)
    (tmp_path / "results.json").write_text("[{")
    assert "is not JSON" in refusal(capsys, "report", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
