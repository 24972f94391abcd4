"""`pynn predict`: what it writes, and one sentence for whatever is wrong."""

import subprocess
import sys

import numpy as np
import pytest
from command_line import refusal

from pynn.cli import main

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
