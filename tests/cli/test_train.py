"""`pynn train`: what it writes and says, and one sentence for whatever is wrong."""

import os

import numpy as np
import pytest
from command_line import predictions, refusal, refusal_after_progress

from pynn.cli import main

pytest.importorskip("matplotlib", reason="the report extra (matplotlib) is not installed")
pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


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


def test_interrupt_after_training_names_the_model(features, tmp_path, capsys, monkeypatch):
    from pynn.solver import Solver

    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Solver, "predict", interrupt)
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
