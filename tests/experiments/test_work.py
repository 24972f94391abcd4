"""Kept work: a run broken off anywhere and taken up again gives the same rows; what is damaged is made anew."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import tiny_questions
from tiny_questions import SHORT, TINY, tiny

from pynn.experiments import QUESTIONS
from pynn.experiments.protocol import Recipe, SealError
from pynn.experiments.work import Pieces, TimeIsUp, Work, data_digest

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")


class Broken(BaseException):
    """As a kill: nothing catches it."""


def timeless(value):
    """`value` without what a clock measured."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key != "seconds"}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def run(name, work=None, config=None, seed=3):
    data = tiny(QUESTIONS[name].DATA)
    return timeless(QUESTIONS[name].run(config or TINY[name], data=data, seed=seed, progress=False, work=work))


@pytest.fixture(autouse=True)
def _quick(one_thread):
    """Tiny networks on one thread."""


@pytest.fixture
def every_epoch(monkeypatch):
    """Trainings are kept after each epoch, however short."""
    monkeypatch.setattr("pynn.experiments.work.SECONDS_AT_RISK", 0.0)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_run_broken_off_after_every_file_in_turn_ends_as_the_whole_one(name, tmp_path, monkeypatch, every_epoch):
    long = {"q5": {"plain": replace(SHORT, epochs=2)}, "q6": {"recipe": replace(SHORT, epochs=4)}}
    config = replace(TINY[name], **long.get(name, {}))
    expected = run(name, config=config)
    write, left = Work.write, 0

    def breaking(self, path, content):
        nonlocal left
        left -= 1
        if left < 0:
            raise Broken
        return write(self, path, content)

    monkeypatch.setattr(Work, "write", breaking)
    sessions, rows = 0, None
    while rows is None:
        sessions += 1
        left = sessions  # files until it is broken off: a moment later each time
        with suppress(Broken):
            rows = run(name, Work(tmp_path, resume=True), config)
    assert rows == expected
    assert sessions > 2


def test_what_is_finished_is_not_done_again(tmp_path, monkeypatch):
    run("q4", Work(tmp_path))
    monkeypatch.setattr("pynn.experiments.q4.fit", None)
    assert run("q4", Work(tmp_path, resume=True)) == run("q4", Work(tmp_path, resume=True))
    with pytest.raises(TypeError):
        run("q4", Work(tmp_path))  # without resume everything is done anew


def test_a_finished_row_needs_no_other_piece(tmp_path):
    run("q2", Work(tmp_path))
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["row", "row"]


@pytest.mark.parametrize(
    ("config", "seed", "data"),
    [
        (replace(TINY["q6"], shift=2), 3, tiny("cifar10")),
        (TINY["q6"], 4, tiny("cifar10")),
        (TINY["q6"], 3, replace(tiny("cifar10"), y_test=np.zeros(20, np.int64))),
        (TINY["q6"], 3, replace(tiny("cifar10"), x_val=tiny("cifar10").x_val ^ 1)),
    ],
    ids=["configuration", "seed", "test labels", "one bit of each pixel"],
)
def test_work_of_anything_else_is_not_taken(config, seed, data, tmp_path):
    run("q6", Work(tmp_path))
    options = {"data": data, "seed": seed, "progress": False}
    mine = QUESTIONS["q6"].run(config, work=Work(tmp_path, resume=True), **options)
    assert timeless(mine) == timeless(QUESTIONS["q6"].run(config, **options))
    assert len(list(tmp_path.iterdir())) == 2


def test_data_differ_in_anything_that_is_in_them():
    data = tiny("binary20")
    others = [
        replace(data, name="other"),
        replace(data, classes=("1", "0")),
        replace(data, x_train=data.x_train.astype(np.float64), x_val=data.x_val.astype(np.float64),
                x_test=data.x_test.astype(np.float64)),
        replace(data, x_train=data.x_train[::-1]),
        replace(data, y_train=1 - data.y_train),
    ]  # fmt: skip
    assert len({data_digest(each) for each in [data, *others]}) == 6
    assert data_digest(data) == data_digest(tiny("binary20"))


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    place = len(content) - 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda content: b"", lambda content: b"{}\n" + content])
def test_damaged_pieces_are_told_and_made_anew(damage, tmp_path, monkeypatch, every_epoch):
    expected = run("q4")
    monkeypatch.setattr(Pieces, "row", lambda self, compute: json.loads(json.dumps(compute())))  # the pieces stay
    run("q4", Work(tmp_path))
    paths = sorted(tmp_path.glob("*/*"))
    assert len(paths) >= 10
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    told = []
    assert run("q4", Work(tmp_path, resume=True, tell=told.append)) == expected
    assert len(told) == len(paths)
    assert all("made anew" in line for line in told)
    told.clear()
    assert run("q4", Work(tmp_path, resume=True, tell=told.append)) == expected  # all of them are whole again
    assert told == []


def test_pieces_under_another_name_or_of_another_row_are_not_taken(tmp_path, monkeypatch, every_epoch):
    expected = run("q4")
    monkeypatch.setattr(Pieces, "row", lambda self, compute: json.loads(json.dumps(compute())))
    run("q4", Work(tmp_path))
    run("q4", Work(tmp_path), seed=9)
    first, second = (sorted(tmp_path.glob(f"4.{part}-*")) for part in (3, 4))
    (first[0] / "final-1").write_bytes((first[0] / "final-2").read_bytes())
    (second[0] / "search-0-0").write_bytes((second[1] / "search-0-0").read_bytes())
    (second[1] / "search-0-0").write_bytes((second[0] / "search-1-0").read_bytes())
    told = []
    assert run("q4", Work(tmp_path, resume=True, tell=told.append)) == expected
    assert told


def test_a_run_whose_work_cannot_be_kept_ends_as_any_other(tmp_path):
    (tmp_path / "work").write_text("a file where the folder has to be")
    told = []
    assert run("q4", Work(tmp_path / "work", tell=told.append)) == run("q4")
    assert len(told) == 1
    assert told[0].startswith("finished work can no longer be kept for --resume: ")


def test_time_is_up_after_the_piece_at_hand(tmp_path, every_epoch):
    sessions, rows = 0, None
    while rows is None:
        sessions += 1
        with suppress(TimeIsUp):
            rows = run("q5", Work(tmp_path, resume=True, seconds=0.0))
    assert rows == run("q5")
    assert sessions > 8  # candidates, seeds, choices and openings, each a session of its own


def test_the_test_data_stay_sealed_for_another_choice_than_the_one_on_record(tmp_path, monkeypatch, every_epoch):
    monkeypatch.setattr(Pieces, "row", lambda self, compute: json.loads(json.dumps(compute())))
    run("q4", Work(tmp_path))
    (folder,) = tmp_path.glob("4.4-*")
    label = json.loads((folder / "choice").read_bytes().partition(b"\n")[0])
    pieces = Pieces(Work(tmp_path), folder, label["identity"])
    pieces.write("choice", b'{"hidden": 7}', 0.0)
    with pytest.raises(SealError, match=r"for the choice .* of an earlier run"):
        run("q4", Work(tmp_path, resume=True))


def test_seconds_of_pieces_that_are_taken_up_count(tmp_path):
    pieces = Work(tmp_path).pieces("0.0", Recipe(epochs=1), "", np.random.SeedSequence(0))
    pieces.value("slow", lambda: time.sleep(0.2))
    again = Work(tmp_path, resume=True).pieces("0.0", Recipe(epochs=1), "", np.random.SeedSequence(0))
    began = again.clock()
    assert again.value("slow", lambda: 1 / 0) is None
    assert 0.2 <= again.clock() - began < 5


# -- the command, killed --------------------------------------------------------------------------------------

COMMAND = """
import sys
sys.path.insert(0, sys.argv[1])
from tiny_questions import SHORT, TINY, tiny
from pynn import experiments
from pynn.cli import main
import pynn.data, pynn.experiments.work
pynn.experiments.work.SECONDS_AT_RISK = 0.0
pynn.data.load = lambda name, data_dir, fallback: tiny(name)
for name in ("q4", "q5"):
    experiments.QUESTIONS[name].Config = lambda config=TINY[name]: config
raise SystemExit(main(["run", "q4", "q5", "--resume", "--threads", "1", "--out", sys.argv[2]]))
"""


@pytest.mark.long
def test_killed_at_random_moments_results_json_is_the_same_bytes(tmp_path):
    def command(out):
        arguments = [
            sys.executable,
            "-c",
            COMMAND,
            tiny_questions.__file__.rpartition(os.sep)[0],
            str(tmp_path / out),
        ]
        return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began = time.perf_counter()
    assert command("whole").wait(timeout=120) == 0
    took = time.perf_counter() - began
    rng, kills = np.random.default_rng(0), 0
    for _ in range(100):
        with command("killed") as process:
            try:
                assert process.wait(timeout=took * rng.uniform(0.3, 1.2)) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            else:
                break
    assert kills
    assert (tmp_path / "killed" / "results.json").read_bytes() == (
        tmp_path / "whole" / "results.json"
    ).read_bytes()
