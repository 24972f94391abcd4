"""Output never lands on input: not under another name, not through a link, not inside a folder that is read."""

import os

import numpy as np
import pytest
from command_line import refusal

from pynn.cli import main
from pynn.cli.errors import UsageError
from pynn.cli.places import keep_apart

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def places(tmp_path):
    """A folder of two classes, an .npz file, and other names for both."""
    for name in ("photos/cat/1.png", "photos/dog/1.png", "elsewhere/2.png", "strays/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    np.savez(tmp_path / "f.npz", X=np.ones((9, 2)), y=np.arange(9) % 3)
    (tmp_path / "alias").symlink_to("photos")
    (tmp_path / "f-alias.npz").symlink_to(tmp_path / "f.npz")
    os.link(tmp_path / "f.npz", tmp_path / "f-hard.npz")
    os.link(tmp_path / "photos/cat/1.png", tmp_path / "photo-hard.png")
    (tmp_path / "photos/bird").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/dog/stray.png").symlink_to(tmp_path / "strays/3.png")
    (tmp_path / "photos/dog/loop").symlink_to(tmp_path / "photos/dog")
    (tmp_path / "out-alias").symlink_to(tmp_path / "photos/new")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "out", "said"),
    [
        ("f.npz", "f.npz", "is the data, which it would replace"),
        ("f.npz", "photos/../f.npz", "is the data, which it would replace"),
        ("f.npz", "f-alias.npz", "is the data, which it would replace"),
        ("f-alias.npz", "f.npz", "is the data, which it would replace"),
        ("f.npz", "f-hard.npz", "is the data, which it would replace"),
        ("photos", "photos", "is the data, which it would replace"),
        ("photos", "photos/model", "lies in the data"),
        ("photos", "photos/cat/1.png", "lies in the data"),
        ("photos", "alias/cat/model", "lies in the data"),
        ("alias", "photos/cat/model", "lies in the data"),
        ("photos", "elsewhere/model", "lies in the data"),
        ("photos", "out-alias", "lies in the data"),
        ("photos", "photo-hard.png", "of the data, which it would replace"),
        ("photos", "strays/3.png", "of the data, which it would replace"),
    ],
)
def test_output_on_the_data_is_refused(places, capsys, data, out, said):
    before = contents(places)
    assert said in refusal(capsys, "train", places / data, "--out", places / out)
    assert said in refusal(capsys, "train", places / data, "--out", places / "m", "--checkpoint", places / out)
    assert contents(places) == before


def test_model_and_checkpoint_are_two_files(places, capsys):
    options = ["--out", places / "m", "--checkpoint", places / "photos/../m"]
    assert "is the model" in refusal(capsys, "train", places / "f.npz", *options)


@pytest.mark.parametrize("out", ["m", "m-alias", "f.npz", "f-hard.npz"])
def test_predictions_on_the_model_or_the_input_are_refused(places, capsys, out):
    assert main(["train", str(places / "f.npz"), "--out", str(places / "m"), "--epochs", "1"]) == 0
    (places / "m-alias").symlink_to("m")
    capsys.readouterr()
    before = contents(places)
    said = refusal(capsys, "predict", places / "m", places / "f.npz", "--out", places / out)
    assert "which it would replace" in said
    assert contents(places) == before


def test_places_beside_the_data_are_free(places):
    for out in ("model", "photos2", "strays/model", "f.npz.model"):
        keep_apart("--out", places / out, {"the data": places / "photos", "more": places / "f.npz"})


def test_relative_names_are_those_of_the_present_folder(places, monkeypatch):
    monkeypatch.chdir(places / "photos" / "cat")
    with pytest.raises(UsageError, match="--out model lies in the data"):
        keep_apart("--out", places.joinpath("model").relative_to(places), {"the data": places / "photos"})
