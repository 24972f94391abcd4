"""`pynn train` and `pynn predict`: what they write, and one sentence for whatever is wrong."""

import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from command_line import refusal, refusal_after_progress

from pynn.cli import main

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


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
