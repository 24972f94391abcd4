"""`pynn predict`: what it writes, and one sentence for whatever is wrong."""

import subprocess
import sys

import numpy as np
import pytest
from command_line import predictions, refusal

from pynn.cli import main
from pynn.cli.prediction import _cell

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


def test_model_whose_scores_are_not_finite_is_refused(features, tmp_path, capsys):
    import pynn

    model, table = tmp_path / "model", tmp_path / "table.csv"
    assert main(["train", str(features[0]), "--out", str(model), "--epochs", "1"]) == 0
    capsys.readouterr()
    damaged = pynn.load(model)
    for parameter in damaged.parameters():
        parameter.data[...] = 3e38
    pynn.save(damaged, model, metadata=pynn.load_metadata(model))
    table.write_text("old")
    said = refusal(capsys, "predict", model, features[0], "--out", table)
    assert said.startswith(f"{model} gives no finite scores for row ")
    assert f" of {features[0]}: the model file is damaged, or the sample is far from the training data" in said
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
        ((tmp_path / "wide.npz", tmp_path / "wide.npz"), "is no model file"),
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


def test_a_model_that_comes_second_is_told(model_file, tmp_path, capsys):
    model, data = model_file
    capsys.readouterr()
    for first in (data, tmp_path):
        said = refusal(capsys, "predict", first, model)
        assert said == f"{first} is no model file, which comes first: pynn predict MODEL INPUT"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".npy"])
def test_tables_are_told_how_to_become_arrays(model_file, tmp_path, capsys, suffix):
    table = (tmp_path / "table").with_suffix(suffix)
    table.write_text("1,2\n")
    capsys.readouterr()
    said = refusal(capsys, "predict", model_file[0], table)
    assert f"{suffix} files are not read: give an .npz file (X) or images; in Python: a = np." in said
    said = refusal(capsys, "train", table, "--out", tmp_path / "m")
    assert "give an .npz file (X and y) or a folder with images by class; in Python: a = np." in said
    assert said.endswith("; np.savez('data.npz', X=a[:, :-1], y=a[:, -1])")


# -- the form of the training data --------------------------------------------------------------------------


def pixels(n: int) -> np.ndarray:
    """(n, 3, 12, 16) uint8: bright on the left, or on the right, in turns; some all of one level."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (n, 3, 12, 16))
    x[0::2, :, :, :8] += 150
    x[1::2, :, :, 8:] += 150
    return x.astype(np.uint8)


@pytest.fixture
def answers(tmp_path, capsys):
    """What a model trained on images in the given form answers to the same images, as an array and as PNGs."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    x = pixels(40)
    (tmp_path / "photos").mkdir()
    for number, each in enumerate(x):
        image.fromarray(np.moveaxis(each, 0, 2)).save(tmp_path / "photos" / f"{number:02}.png")

    def ask(form) -> tuple[list, list]:
        np.savez(tmp_path / "d.npz", X=form(x), y=np.array(["left", "right"] * 20))
        options = ["--epochs", "2", "--batch-size", "8", "--hidden", "8"]
        assert main(["train", str(tmp_path / "d.npz"), "--out", str(tmp_path / "m"), *options]) == 0
        return predicted(capsys, tmp_path / "m", tmp_path / "d.npz"), predicted(
            capsys, tmp_path / "m", tmp_path / "photos"
        )

    return ask


def predicted(capsys, model, data) -> list[tuple[str, float]]:
    """(class, probability) of each sample; rounding may move the fourth digit of a probability."""
    capsys.readouterr()
    assert main(["predict", str(model), str(data)]) == 0
    found = predictions(capsys.readouterr().out)
    return [(each["class"], pytest.approx(float(each["probability"]), abs=2e-4)) for each in found]


@pytest.mark.parametrize(
    "form",
    [lambda x: x, lambda x: x / 255, lambda x: x / 127.5 - 1, lambda x: x.astype(np.float32)],
    ids=["bytes", "0 to 1", "-1 to 1", "floats to 255"],
)
def test_photos_are_brought_into_the_values_of_the_training_data(answers, form):
    arrays, photos = answers(form)
    assert photos == [(label, p.expected) for label, p in arrays]


def test_photos_are_refused_where_no_photo_has_such_values(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    x = pixels(20)
    np.savez(tmp_path / "d.npz", X=(x - x.mean()) / x.std(), y=np.arange(20) % 2)
    assert main(["train", str(tmp_path / "d.npz"), "--out", str(tmp_path / "m"), "--epochs", "1"]) == 0
    image.fromarray(np.moveaxis(x[0], 0, 2)).save(tmp_path / "p.png")
    capsys.readouterr()
    assert "which image files do not have" in refusal(capsys, "predict", tmp_path / "m", tmp_path / "p.png")


def test_transparent_is_white_in_training_and_prediction(tmp_path, capsys):
    """Drawings on transparency, and the same ones on white paper, are one to the model."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(12):
            ink = rng.random((8, 8)) < (0.3 if label == "a" else 0.6)
            drawing = np.where(ink[..., None], np.array([30, 0, 90, 255]), 0).astype(np.uint8)
            paper = np.where(ink[..., None], drawing[..., :3], 255).astype(np.uint8)
            for kind, array in (("clear", drawing), ("paper", paper)):
                (tmp_path / kind / label).mkdir(parents=True, exist_ok=True)
                image.fromarray(array).save(tmp_path / kind / label / f"{number:02}.png")
    for kind in ("clear", "paper"):
        options = ["--epochs", "2", "--batch-size", "8", "--hidden", "8"]
        assert main(["train", str(tmp_path / kind), "--out", str(tmp_path / f"of-{kind}"), *options]) == 0
    answers = [
        predicted(capsys, tmp_path / model, tmp_path / kind)
        for model in ("of-clear", "of-paper")
        for kind in ("clear", "paper")
    ]
    assert all([(label, p.expected) for label, p in each] == answers[0] for each in answers)


def test_models_of_earlier_versions_still_answer(answers, tmp_path, capsys):
    """They have the shape of a sample and no more of its form."""
    import pynn

    _, expected = answers(lambda x: x / 255)
    metadata = pynn.load_metadata(tmp_path / "m")
    form = metadata.pop("input_format")
    pynn.save(pynn.load(tmp_path / "m"), tmp_path / "m", metadata=metadata | {"input_shape": form["shape"]})
    found = predicted(capsys, tmp_path / "m", tmp_path / "photos")
    assert found == [(label, p.expected) for label, p in expected]


def test_features_with_a_large_offset_keep_their_digits(tmp_path, capsys):
    """Seconds since 1970: in float32 they have steps of 128."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = 1.7e9 + 10 * y[:, None] + rng.normal(size=(200, 1))
    np.savez(tmp_path / "d.npz", X=x, y=y)
    options = ["--epochs", "8", "--batch-size", "20", "--lr", "0.01", "--hidden", "8"]
    assert main(["train", str(tmp_path / "d.npz"), "--out", str(tmp_path / "m"), *options]) == 0
    np.savez(tmp_path / "new.npz", X=x)
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "m"), str(tmp_path / "new.npz")]) == 0
    assert [int(each["class"]) for each in predictions(capsys.readouterr().out)] == y.tolist()


# -- the table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-1", "-1"),
        ("+2.5e-3", "+2.5e-3"),
        ("a=b", "a=b"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
    ],
)
def test_no_cell_is_a_formula_and_all_are_text(label, cell):
    assert _cell(label) == cell


def test_what_a_system_leaves_in_folders_is_passed_over(pictures, tmp_path, capsys):
    for name in (".hidden", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (pictures / "left" / name).write_text("no image")
    (pictures / ".git").mkdir()
    (pictures / ".git" / "config").write_text("no image")
    assert main(["train", str(pictures), "--out", str(tmp_path / "m"), "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "m"), str(pictures)]) == 0
    assert len(predictions(capsys.readouterr().out)) == 40
