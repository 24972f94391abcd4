"""The command line: what it writes, its exit codes, and one sentence for whatever is wrong."""

import csv
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from report_rows import rows

import cnn_ext
from pynn import experiments
from pynn.cli import main
from pynn.data import DataError
from pynn.solver import TrainingDiverged

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **options)


def refusal(capsys, *arguments) -> str:
    """The sentence on stderr with which `arguments` are refused."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pynn: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("pynn: error: ").strip()


def question(*answers, calls=None):
    """A module as in QUESTIONS, whose run gives rows, or raises exceptions, at once."""

    @dataclasses.dataclass(frozen=True)
    class Config:
        epochs: int = 10

        @classmethod
        def quick(cls):
            return cls(epochs=1)

    def run(config, *, data_dir=None, seed=0, progress=None, on_row=None):
        if calls is not None:
            calls.append((config.epochs, data_dir, seed))
        for answer in answers:
            if not isinstance(answer, dict):
                raise answer
            on_row(answer)

    return SimpleNamespace(Config=Config, run=run)


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


def results(folder) -> list[dict]:
    return json.loads((folder / "results.json").read_text())


# -- start --------------------------------------------------------------------------------------------------


def test_module_and_script_are_one_command():
    version, described = python("-m", "pynn", "--version"), python("-m", "pynn", "info")
    assert version.stdout.startswith("pynn ")
    assert described.stdout.startswith(version.stdout.split()[0])
    assert (version.returncode, described.returncode) == (0, 0)
    told = dict(line.split(maxsplit=1) for line in described.stdout.splitlines())
    assert told["isa"] == cnn_ext.isa
    assert int(told["threads"]) == cnn_ext.get_num_threads()
    assert told["openmp"] == str(cnn_ext.openmp_enabled())
    assert "numpy" in told


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom pynn.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    heavy = "{'matplotlib', 'PIL', 'safetensors', 'tqdm', 'pynn.experiments', 'pynn.report'}"
    found = python("-c", f"{code}print('HEAVY', sorted({heavy} & set(sys.modules)))")
    assert "usage: pynn" in found.stdout
    assert "HEAVY []" in found.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_training_keeps_the_memory_that_it_frees():
    """Blocks of the size of activations, taken and freed as a step does: without it each round faults anew."""
    code = """
import resource, sys
import numpy as np
from pynn.cli.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    blocks = [np.ones(2**20) for _ in range(4)]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        how: int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given back")
    }
    if faults["given back"] < 1000:
        pytest.skip("this allocator keeps freed memory anyway")
    assert faults["kept"] < faults["given back"] / 10


def test_no_traceback_and_exit_code_2_from_the_shell():
    refused = python("-m", "pynn", "run", "q99")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("pynn: error: unknown question 'q99'")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["rnu"], "invalid choice: 'rnu'"),
        (["run"], "QUESTION"),
        (["run", "q2", "--sed", "1"], "unrecognized arguments: --sed"),
        (["run", "q2", "--seed", "-1"], "--seed: expected a whole number from 0, got '-1'"),
        (["run", "q2", "--seed", "1.5"], "--seed: expected a whole number from 0, got '1.5'"),
        (["run", "q2", "--threads", "0"], "--threads: expected a whole number from 1, got '0'"),
        (["run", "q2", "--threads", "100000"], "--threads 100000: set_num_threads: expected 1 to"),
        (["train", "x.npz"], "--out"),
        (["train", "x.npz", "--out", "m", "--lr", "nan"], "--lr: expected a number above 0, got 'nan'"),
        (["train", "x.npz", "--out", "m", "--lr", "0"], "--lr: expected a number above 0, got '0'"),
        (["train", "x.npz", "--out", "m", "--epochs", "²"], "--epochs: expected a whole number from 1, got '²'"),
        (["train", "x.npz", "--out", "m", "--model", "rnn"], "invalid choice: 'rnn'"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told_in_one_sentence(capsys, arguments, said):
    assert said in refusal(capsys, *arguments)


# -- run ----------------------------------------------------------------------------------------------------


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
    assert calls == [(1, tmp_path, 7), (1, tmp_path, 7), (10, tmp_path, 0)]
    assert [(made["question"], made["quick"], made["seed"]) for made in results(tmp_path / "out")] == [
        ("2.3", False, 0),
        ("3.3", True, 7),
    ]


def test_run_sets_the_threads(ask, tmp_path):
    import cnn_ext

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
    expected = (
        f"pynn: interrupted: 2.3 finished and is in {tmp_path / 'results.json'} and {tmp_path / 'report.html'}\n"
    )
    assert err == expected


def test_interrupt_before_any_row_changes_nothing(ask, tmp_path, capsys):
    assert main(["run", "q2", "--out", str(tmp_path)]) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    ask(q2=question(KeyboardInterrupt()))
    assert main(["run", "q2", "--out", str(tmp_path)]) == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert capsys.readouterr().err.startswith("pynn: interrupted: no question finished")


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
    expected = (
        f"pynn: interrupted: {tmp_path / 'results.json'} has every question that finished, "
        f"`pynn report {tmp_path}` draws the page\n"
    )
    assert capsys.readouterr().err == expected
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_nobody_explains_is_one_word(ask, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pynn.cli.questions.read_rows", interrupted)
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
        "experiments.QUESTIONS = {'q2': SimpleNamespace(Config=dict, run=run)}\n"
        f"raise SystemExit(main(['run', 'q2', '--out', {str(tmp_path)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode().startswith("pynn: interrupted: no question finished")
    assert err.count(b"\n") == 1


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
    assert refusal(capsys, "run", "q2", "--out", tmp_path)
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


# -- report -------------------------------------------------------------------------------------------------


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


# -- train and predict --------------------------------------------------------------------------------------


@pytest.fixture
def features(tmp_path):
    """Three named classes at the corners of a triangle, on scales of 100 and 0.01."""
    rng = np.random.default_rng(0)
    names = np.array(["hill", "lake", "wood"])
    y = np.arange(240) % 3
    corners = np.array([[0, 0], [4, 0], [0, 4]])
    x = (corners[y] + 0.3 * rng.normal(size=(240, 2))) * [100, 0.01]
    path = tmp_path / "features.npz"
    np.savez(path, X=x, y=names[y])
    return path, x, names[y]


@pytest.fixture
def pictures(tmp_path):
    """A folder of 16×12 images by class: bright on the left, or on the right."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 60, (12, 16, 3))
            pixels[:, :8] += 150 if name == "left" else 0
            pixels[:, 8:] += 150 if name == "right" else 0
            image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def predictions(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text)))


def test_features_are_learnt_and_predicted_from_the_model_file_alone(features, tmp_path, capsys):
    path, x, y = features
    model = tmp_path / "model.safetensors"
    options = ["--epochs", "10", "--batch-size", "16", "--lr", "0.01", "--hidden", "16"]
    assert main(["train", str(path), "--out", str(model), *options]) == 0
    assert "Test accuracy 100.00 % on 24 samples of features." in capsys.readouterr().out
    path.unlink()
    np.savez(tmp_path / "new.npz", X=x)
    assert main(["predict", str(model), str(tmp_path / "new.npz")]) == 0
    found = predictions(capsys.readouterr().out)
    assert list(found[0]) == ["row", "class", "probability"]
    assert [int(each["row"]) for each in found] == list(range(240))
    assert np.mean([each["class"] for each in found] == y) > 0.99
    assert all(1 / 3 < float(each["probability"]) <= 1 for each in found)


def test_images_are_learnt_and_predicted_from_a_folder(pictures, tmp_path, capsys):
    model, table = tmp_path / "model", tmp_path / "table.csv"
    assert main(["train", str(pictures), "--out", str(model), "--epochs", "6", "--batch-size", "8"]) == 0
    assert main(["predict", str(model), str(pictures), "--out", str(table)]) == 0
    found = predictions(table.read_text())
    assert len(found) == 40
    assert all(f"{os.sep}{each['class']}{os.sep}" in each["file"] for each in found)
    capsys.readouterr()
    assert main(["predict", str(model), str(pictures / "right" / "3.png")]) == 0
    assert predictions(capsys.readouterr().out)[0]["class"] == "right"


@pytest.mark.parametrize("options", [["--model", "mlp"], ["--grayscale"], ["--image-size", "7"]])
def test_images_can_be_learnt_otherwise(pictures, tmp_path, options):
    model = tmp_path / "model"
    assert main(["train", str(pictures), "--out", str(model), "--epochs", "1", *options]) == 0
    assert main(["predict", str(model), str(pictures), "--out", str(tmp_path / "table.csv")]) == 0
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 41


def test_one_seed_gives_one_model_file(features, tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        command = ["train", str(features[0]), "--out", str(tmp_path / name), "--epochs", "2", "--seed", seed]
        assert main(command) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_image_size_that_is_too_large_is_refused(pictures, tmp_path, capsys):
    message = refusal(capsys, "train", pictures, "--out", tmp_path / "model", "--image-size", "100000")
    assert message == "--image-size 100000: expected a whole number from 1 to 16384"


def test_interrupted_training_keeps_the_old_model(features, tmp_path, capsys, monkeypatch):
    from pynn.solver import Solver

    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Solver, "fit", interrupt)
    (tmp_path / "model").write_text("old")
    assert main(["train", str(features[0]), "--out", str(tmp_path / "model")]) == 130
    expected = f"pynn: interrupted: no model was written, {tmp_path / 'model'} is as it was\n"
    assert capsys.readouterr().err == expected
    assert (tmp_path / "model").read_text() == "old"


def test_interrupt_after_training_names_the_model(features, tmp_path, capsys, monkeypatch):
    from pynn.solver import Solver

    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Solver, "evaluate", interrupt)
    assert main(["train", str(features[0]), "--out", str(tmp_path / "model"), "--epochs", "1"]) == 130
    expected = f"pynn: interrupted: the model is {tmp_path / 'model'}, its test accuracy is not known\n"
    assert capsys.readouterr().err.endswith(expected)
    assert (tmp_path / "model").is_file()


def test_wrong_training_data_are_refused(features, pictures, tmp_path, capsys):
    model = tmp_path / "model"
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "nan.npz", X=[[1.0], [np.nan]] * 9, y=[0, 1] * 9)
    np.savez(tmp_path / "one.npz", X=np.ones((9, 2)), y=np.zeros(9))
    for arguments, said in (
        ((tmp_path / "none",), "there is no file or folder"),
        ((tmp_path / "text.npz",), "not a readable .npz file"),
        ((tmp_path / "nan.npz",), "not finite"),
        ((tmp_path / "one.npz",), "at least two classes"),
        ((features[0], "--model", "cnn"), "--model cnn needs images"),
        ((features[0], "--grayscale"), "are for a folder of images"),
        ((features[0], "--lr", "1e30"), "training diverged"),
    ):
        assert said in refusal_after_progress(capsys, "train", *arguments, "--out", model)
    (pictures / "left" / "0.png").write_bytes(b"no image")
    assert "0.png: not a readable image" in refusal(capsys, "train", pictures, "--out", model)
    assert not model.exists()


def refusal_after_progress(capsys, *arguments) -> str:
    """As `refusal`, for commands that may have shown progress before."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert all(line.startswith("epoch ") for line in lines[:-1])
    assert lines[-1].startswith("pynn: error: ")
    return lines[-1]


def test_model_that_cannot_be_written_is_refused_before_training(features, capsys, tmp_path):
    assert "cannot write" in refusal(capsys, "train", features[0], "--out", tmp_path / "none" / "model")


def test_model_whose_scores_are_not_finite_is_refused(features, tmp_path, capsys):
    import pynn

    model, table = tmp_path / "model", tmp_path / "table.csv"
    assert main(["train", str(features[0]), "--out", str(model), "--epochs", "1"]) == 0
    capsys.readouterr()
    damaged = pynn.load(model)
    damaged.parameters()[0].data[0, 0] = np.nan
    pynn.save(damaged, model, metadata=pynn.load_metadata(model))
    table.write_text("old")
    said = refusal(capsys, "predict", model, features[0], "--out", table)
    assert said.startswith(f"{model} gives no finite scores for row 0 of {features[0]}: the model file is damaged")
    assert table.read_text() == "old"


def test_wrong_input_to_predict_is_refused(features, tmp_path, capsys):
    pytest.importorskip("PIL", reason="the images extra (Pillow) is not installed")
    model, table = tmp_path / "model", tmp_path / "table.csv"
    assert main(["train", str(features[0]), "--out", str(model), "--epochs", "1"]) == 0
    capsys.readouterr()
    np.savez(tmp_path / "wide.npz", X=np.ones((4, 3)))
    np.savez(tmp_path / "unnamed.npz", a=np.ones((4, 2)), b=np.ones((4, 2)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "picture.png").write_bytes(b"no image")
    cut = tmp_path / "cut"
    cut.write_bytes(model.read_bytes()[:-7])
    for arguments, said in (
        ((model, tmp_path / "none"), "there are no data at"),
        ((model, tmp_path / "empty"), "there are no data at"),
        ((model, tmp_path / "wide.npz"), "the model takes samples of shape (2,), X has (3,)"),
        ((model, tmp_path / "unnamed.npz"), "expected an array X, got a, b"),
        ((model, tmp_path / "picture.png"), "which images are not"),
        ((tmp_path / "none", tmp_path / "wide.npz"), "there is no file"),
        ((cut, tmp_path / "wide.npz"), "is damaged or not a model"),
        ((tmp_path / "wide.npz", tmp_path / "wide.npz"), "is damaged or not a model"),
    ):
        assert said in refusal(capsys, "predict", *arguments, "--out", table)
    assert not table.exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"classes": ["a"], "input_shape": [2], "standardize": {"mean": [0, 0], "std": [1, 1]}},
        {"classes": ["a", "b"], "input_shape": [2], "standardize": {"mean": [0], "std": [1]}},
        {"classes": ["a", "b"], "input_shape": "two", "standardize": {"mean": [0, 0], "std": [1, 1]}},
    ],
    ids=["none", "too few classes", "too few means", "no shape"],
)
def test_model_without_what_train_keeps_is_refused(metadata, tmp_path, capsys):
    from pynn import models
    from pynn.io import save

    save(models.linear(2, 2), tmp_path / "model", metadata=metadata)
    assert "train it" in refusal(capsys, "predict", tmp_path / "model", tmp_path)


def test_reader_that_wants_no_more_is_no_error(features, tmp_path):
    model = tmp_path / "model"
    assert main(["train", str(features[0]), "--out", str(model), "--epochs", "1"]) == 0
    np.savez(tmp_path / "long.npz", X=np.ones((20_000, 2)))
    command = [sys.executable, "-m", "pynn", "predict", str(model), str(tmp_path / "long.npz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"row,class,probability\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
