"""The protocol: the seal of the test data, the search, and what a final training may see."""

import statistics
from dataclasses import replace

import numpy as np
import pytest

import cnn_ext
from pynn import LogisticLoss, models
from pynn.data import Dataset
from pynn.experiments.protocol import Recipe, SealedTest, SealError, Split, answer, fit, grid, search
from pynn.experiments.work import Pieces

RECIPE = Recipe(epochs=2, lr=0.1, batch_size=10, min_steps=0)


@pytest.fixture(autouse=True)
def one_thread():
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(1)
    yield
    cnn_ext.set_num_threads(before)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    y = (x[:, 0] + 0.3 * rng.standard_normal(60) > 0).astype(np.int64)
    rows = slice(0, 30), slice(30, 45), slice(45, 60)
    return Dataset("tiny", *(part[r] for r in rows for part in (x, y)), ("no", "yes"), "real", "made up")


@pytest.fixture
def split(data):
    return Split.of(data)


def train(split, choice, rng, final, training):
    recipe = replace(RECIPE, weight_decay=choice["weight_decay"])
    return fit(models.linear(split.n_features, rng=rng), LogisticLoss(), split, recipe, rng, training)


def ask(split, candidates=({"weight_decay": 0.1}, {"weight_decay": 0.0}), train=train, **options):
    return answer(
        "0.0",
        split,
        list(candidates),
        train,
        np.random.SeedSequence(1),
        Pieces.nowhere(),
        progress=False,
        **options,
    )


# -- the seal -----------------------------------------------------------------------------------------------


def test_test_data_open_once_and_only_after_the_choice():
    x, y = np.zeros((3, 2)), np.zeros(3)
    sealed = SealedTest(x, y)
    with pytest.raises(SealError, match="sealed until a choice is on record"):
        sealed.open()
    assert sealed.openings == 0
    sealed.record({"hidden": 3})
    assert sealed.open() == (x, y)
    assert sealed.openings == 1
    with pytest.raises(SealError, match="opened before"):
        sealed.open()
    with pytest.raises(SealError, match="comes too late"):
        sealed.record({"hidden": 4})


def test_a_search_that_touches_test_data_fails(split):
    def peeking(split, choice, rng, final, training):
        solver = train(split, choice, rng, final, training)
        solver.evaluate(*split.test.open())
        return solver

    with pytest.raises(SealError):
        ask(split, train=peeking)
    assert split.test.openings == 0


def test_a_training_that_touches_test_data_fails_after_the_choice_as_well(split):
    def peeking(split, choice, rng, final, training):
        if final:
            split.test.open()
        return train(split, choice, rng, final, training)

    with pytest.raises(SealError, match="opened before"):
        ask(split, train=peeking)


def test_the_split_has_no_other_way_to_the_test_data(data, split):
    for name, value in vars(split).items():
        assert not (isinstance(value, np.ndarray) and np.shares_memory(value, data.x_test)), name
    assert len(split.test) == len(data.y_test)


def test_answer_opens_the_test_data_once_and_puts_the_choice_on_record(split):
    result = ask(split, n_seeds=3)
    assert split.test.openings == 1
    assert split.test.choice == result.chosen


# -- the split ----------------------------------------------------------------------------------------------


def test_standardisation_is_of_the_training_part_alone(data):
    far = replace(data, x_val=data.x_val + 100, x_test=data.x_test - 100)
    np.testing.assert_array_equal(Split.of(far).standardize.mean, Split.of(data).standardize.mean)
    np.testing.assert_allclose(Split.of(data).standardize.mean, data.x_train.mean(axis=0), rtol=1e-5, atol=1e-7)


def test_max_train_keeps_the_first_samples_and_all_test_data(data):
    split = Split.of(data, max_train=7)
    np.testing.assert_array_equal(split.x_train, data.x_train[:7])
    assert (len(split.y_train), len(split.x_val), len(split.y_val), len(split.test)) == (7, 7, 7, 15)


def test_joined_has_the_validation_part_in_the_training_part(data, split):
    joined = split.joined()
    np.testing.assert_array_equal(joined.x_train, np.concatenate([data.x_train, data.x_val]))
    np.testing.assert_array_equal(joined.y_train, np.concatenate([data.y_train, data.y_val]))
    assert len(joined.x_val) == len(joined.y_val) == 0
    assert joined.test is split.test
    np.testing.assert_allclose(joined.standardize.mean, joined.x_train.mean(axis=0), rtol=1e-5, atol=1e-7)


# -- training -----------------------------------------------------------------------------------------------


def test_training_does_not_depend_on_the_validation_part(data, split):
    other = Split.of(replace(data, y_val=1 - data.y_val))  # with these labels the first epoch is the best one
    solvers = [
        train(part, {"weight_decay": 0.0}, np.random.default_rng(5), True, Pieces.nowhere().training(""))
        for part in (split, other)
    ]
    best = [int(np.argmin(solver.history["val_loss"])) for solver in solvers]
    assert best[0] != best[1]
    states = [solver.model.state_dict() for solver in solvers]
    assert all(np.array_equal(states[0][path], states[1][path]) for path in states[0])


def test_few_samples_are_gone_through_more_often():
    recipe = Recipe(epochs=4, batch_size=10, min_steps=30)
    assert recipe.epochs_for(1000) == 4
    assert recipe.epochs_for(50) == 6
    assert recipe.epochs_for(45) == 7


# -- the search ---------------------------------------------------------------------------------------------


def test_grid_varies_the_last_name_fastest():
    assert grid(a=(1, 2), b="xy") == [{"a": a, "b": b} for a in (1, 2) for b in "xy"]


def test_search_picks_the_best_and_of_equals_the_first():
    accuracies = {1: 0.5, 2: 0.9, 3: 0.9, 4: 0.7}
    best, table = search(grid(size=accuracies), lambda choice: accuracies[choice["size"]])
    assert best == {"size": 2}
    assert [(trial["choice"]["size"], trial["val_accuracy"]) for trial in table] == list(accuracies.items())
    assert all(trial["seconds"] >= 0 for trial in table)


def test_search_needs_candidates():
    with pytest.raises(ValueError, match="no candidates"):
        search([], lambda choice: 1.0)


def test_answer_chooses_by_the_mean_validation_accuracy_of_the_trials(split):
    seen = []

    def recording(split, choice, rng, final, training):
        state = rng.bit_generator.state["state"]["state"]
        solver = train(split, choice, rng, final, training)
        seen.append((choice["weight_decay"], final, state, solver.history["val_accuracy"][-1]))
        return solver

    result = ask(split, train=recording, n_trials=3, n_seeds=2)
    trials = [entry for entry in seen if not entry[1]]
    for trial, weight_decay in zip(result.search, (0.1, 0.0), strict=True):
        mine = [accuracy for decay, _, _, accuracy in trials if decay == weight_decay]
        assert len(mine) == 3
        assert trial["val_accuracy"] == pytest.approx(statistics.fmean(mine))
    assert [entry[2] for entry in trials[:3]] == [entry[2] for entry in trials[3:]]  # the same seeds for all
    assert len({entry[2] for entry in seen}) == 3 + 2  # and others for the final trainings
    assert [entry[0] for entry in seen if entry[1]] == [result.chosen["weight_decay"]] * 2


def test_answer_reports_the_first_seed_and_the_spread_of_all(split, data):
    result = ask(split, n_seeds=4)
    assert len(result.accuracies) == 4
    assert result.accuracies[0] == (result.predicted == data.y_test).mean()
    assert result.mean == pytest.approx(np.mean(result.accuracies))
    assert result.std == pytest.approx(np.std(result.accuracies, ddof=1))
    assert ask(Split.of(data), n_seeds=1).std is None


def test_refit_trains_on_validation_data_after_the_choice_only(split):
    sizes = []

    def recording(split, choice, rng, final, training):
        sizes.append((final, len(split.x_train)))
        return train(split, choice, rng, final, training)

    result = ask(split, train=recording, refit=True)
    assert sizes == [(False, 30), (False, 30), (True, 45)]
    assert result.solver.history["val_accuracy"] == [None, None]
    assert result.history["val_accuracy"][-1] == max(trial["val_accuracy"] for trial in result.search)


def test_a_single_candidate_is_not_searched_for(split):
    result = ask(split, candidates=[{"weight_decay": 0.1}])
    assert result.search == []
    assert result.chosen == {"weight_decay": 0.1}
    assert result.history is result.solver.history


def test_progress_is_a_line_a_training_or_silence(split, data, capsys):
    ask(split)
    assert capsys.readouterr() == ("", "")
    answer(
        "0.0",
        Split.of(data),
        [{"weight_decay": 0.1}],
        train,
        np.random.SeedSequence(1),
        Pieces.nowhere(),
        n_seeds=2,
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "0.0  final training 1 of 2",
        "0.0  final training 2 of 2",
        "0.0  weight_decay 0.1",
    ]
