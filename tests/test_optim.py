"""Optimizers: formulas by hand, convergence, groups, state, clipping, and what is refused."""

import copy
import multiprocessing
import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from spawned import three_steps

from pynn.layers import Linear, Sequential
from pynn.module import Module, Parameter
from pynn.optim import SGD, Adam, AdamW, RMSProp, clip_grad_norm, decay_groups

OPTIMIZERS = [
    (SGD, {"lr": 0.1}),
    (SGD, {"lr": 0.1, "momentum": 0.9}),
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (RMSProp, {"lr": 0.1, "weight_decay": 0.01}),
    (Adam, {"lr": 0.1, "weight_decay": 0.01}),
    (AdamW, {"lr": 0.1}),
]
every_optimizer = pytest.mark.parametrize(("kind", "options"), OPTIMIZERS, ids=str)


def parameters(rng, dtype=np.float64, shapes=((3, 4), (4,), (2, 1, 3, 3))):
    return [Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]


def set_gradients(params, rng):
    for parameter in params:
        parameter.grad[...] = rng.normal(size=parameter.shape)


# -- formulas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "after_one", "after_two"),
    [
        # θ = 2, then g = 0.5 and g = −1
        (SGD, {"lr": 0.1}, 1.95, 2.05),
        (SGD, {"lr": 0.1, "weight_decay": 0.1}, 2 - 0.1 * 0.7, 1.93 - 0.1 * (-1 + 0.193)),
        (SGD, {"lr": 0.1, "momentum": 0.5}, 1.95, 1.95 - 0.1 * (0.25 - 1)),
        (SGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True}, 2 - 0.1 * 0.75, 1.925 - 0.1 * (-1 + 0.5 * -0.75)),
        (
            RMSProp,
            {"lr": 0.1, "alpha": 0.75, "eps": 0.5},
            2 - 0.1 * 0.5 / (0.25 + 0.5),
            2 - 0.1 * 0.5 / 0.75 + 0.1 / (np.sqrt(0.75 * 0.0625 + 0.25) + 0.5),
        ),
        (
            Adam,
            {"lr": 0.1, "betas": (0.5, 0.75), "eps": 0.0},
            1.9,
            1.9 - 0.1 * ((0.25 * 0.5 - 0.5) / 0.75) / np.sqrt((0.75 * 0.0625 + 0.25) / 0.4375),
        ),
        (Adam, {"lr": 0.1, "eps": 0.5, "weight_decay": 1.0}, 2 - 0.1 * 2.5 / (2.5 + 0.5), None),
        (AdamW, {"lr": 0.1, "eps": 0.5, "weight_decay": 1.0}, 2 - 0.1 * 2 - 0.1 * 0.5 / (0.5 + 0.5), None),
    ],
    ids=str,
)
def test_two_steps_by_hand(kind, options, after_one, after_two):
    parameter = Parameter(np.array([2.0]))
    optimizer = kind([parameter], **options)
    parameter.grad[0] = 0.5
    optimizer.step()
    assert parameter.data[0] == pytest.approx(after_one, rel=1e-14)
    if after_two is not None:
        parameter.grad[0] = -1
        optimizer.step()
        assert parameter.data[0] == pytest.approx(after_two, rel=1e-14)


def test_adamw_decays_by_default_and_adam_does_not():
    for kind, factor in ((AdamW, 1 - 1e-3 * 1e-2), (Adam, 1)):
        parameter = Parameter(np.array([2.0]))
        kind([parameter]).step()
        assert parameter.data[0] == 2.0 * factor


@every_optimizer
def test_parameters_change_in_place_and_gradients_stay(kind, options):
    rng = np.random.default_rng(0)
    params = parameters(rng, np.float32)
    optimizer = kind(params, **options)
    arrays = [parameter.data for parameter in params]
    set_gradients(params, rng)
    before = [(parameter.data.copy(), parameter.grad.copy()) for parameter in params]
    optimizer.step()
    for parameter, array, (data, grad) in zip(params, arrays, before, strict=True):
        assert parameter.data is array
        assert parameter.data.dtype == np.float32
        assert (parameter.data != data).all()
        np.testing.assert_array_equal(parameter.grad, grad)
    optimizer.zero_grad()
    assert not any(parameter.grad.any() for parameter in params)


# -- convergence ----------------------------------------------------------------------------------------------


def quadratic(x):
    """½ (x − c)ᵀ A (x − c) with the eigenvalues of A from 0.1 to 1, its gradient and its minimum c."""
    a, c = np.diag([0.1, 0.4, 1.0]), np.array([1.0, -2.0, 3.0])
    return a @ (x - c), c


def rosenbrock(x):
    """(1 − x₀)² + 100 (x₁ − x₀²)²: a bent valley; its gradient and its minimum."""
    slope = x[1] - x[0] ** 2
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * slope, 200 * slope]), np.ones(2)


CONVERGING = [  # lr on the quadratic; lr and steps on Rosenbrock's function
    (SGD, {}, 0.5, 1.4e-3, 16000),
    (SGD, {"momentum": 0.9}, 0.1, 1e-3, 4000),
    (SGD, {"momentum": 0.9, "nesterov": True}, 0.1, 1e-3, 4000),
    (RMSProp, {}, 0.05, 0.01, 8000),
    (Adam, {}, 0.1, 0.02, 4000),
    (AdamW, {"weight_decay": 0.0}, 0.1, 0.02, 4000),
]


def minimise(gradient, parameter, optimizer, steps):
    for step in range(steps):
        parameter.grad[...], minimum = gradient(parameter.data)
        optimizer.step(lr_factor=min(1, 2 - 2 * step / steps))  # to 0 in the second half
    np.testing.assert_allclose(parameter.data, minimum, atol=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "options", "lr"), [row[:3] for row in CONVERGING], ids=str)
def test_convergence_on_a_quadratic(kind, options, lr, dtype):
    parameter = Parameter(np.array([-1.2, 1.0, 0.0], dtype))
    minimise(quadratic, parameter, kind([parameter], lr=lr, **options), 300)


@pytest.mark.parametrize(("kind", "options", "lr", "steps"), [(*row[:2], *row[3:]) for row in CONVERGING], ids=str)
def test_convergence_on_rosenbrock(kind, options, lr, steps):
    parameter = Parameter(np.array([-1.2, 1.0]))
    minimise(rosenbrock, parameter, kind([parameter], lr=lr, **options), steps)


@every_optimizer
def test_weight_decay_alone_shrinks_towards_zero(kind, options):
    parameter = Parameter(np.array([3.0, -3.0]))
    optimizer = kind([parameter], **{**options, "weight_decay": 0.5})
    for step in range(200):
        optimizer.step(lr_factor=1 - step / 200)
    assert np.abs(parameter.data).max() < 0.1


# -- groups ---------------------------------------------------------------------------------------------------


@every_optimizer
def test_groups_are_as_separate_optimizers(kind, options):
    rng = np.random.default_rng(1)
    first, second = parameters(rng), parameters(rng)
    twins = [[Parameter(parameter.data.copy()) for parameter in params] for params in (first, second)]
    grouped = kind([{"params": first, "lr": 0.01}, {"params": second, "weight_decay": 0.3}], **options)
    separate = [kind(twins[0], **{**options, "lr": 0.01}), kind(twins[1], **{**options, "weight_decay": 0.3})]
    for _ in range(5):
        set_gradients(first + second, rng)
        for parameter, twin in zip(first + second, twins[0] + twins[1], strict=True):
            twin.grad[...] = parameter.grad
        for optimizer in (grouped, *separate):
            optimizer.step(lr_factor=0.5)
    for parameter, twin in zip(first + second, twins[0] + twins[1], strict=True):
        np.testing.assert_array_equal(parameter.data, twin.data)


@every_optimizer
def test_lr_factor_scales_the_lr_of_every_group(kind, options):
    def run(lrs, factor):
        rng = np.random.default_rng(2)
        params = parameters(rng)
        optimizer = kind([{"params": [p], "lr": lr} for p, lr in zip(params, lrs, strict=True)], **options)
        for _ in range(3):
            set_gradients(params, rng)
            optimizer.step(factor)
        return np.concatenate([parameter.data.ravel() for parameter in params])

    np.testing.assert_array_equal(run([0.1, 0.2, 0.4], 0.25), run([0.025, 0.05, 0.1], 1.0))
    np.testing.assert_array_equal(run([0.1, 0.2, 0.4], 0.0), run([0.0, 0.0, 0.0], 1.0))
    assert (run([0.1, 0.2, 0.4], 0.25) != run([0.1, 0.2, 0.4], 1.0)).any()


def test_groups_are_readable_and_a_changed_value_counts():
    rng = np.random.default_rng(3)
    params = parameters(rng)
    optimizer = SGD(iter(params), 0.1, weight_decay=0.2)
    assert optimizer.groups == [{"params": params, "lr": 0.1, "weight_decay": 0.2}]
    set_gradients(params, rng)
    optimizer.groups[0].update(lr=0.5, weight_decay=0.0)
    expected = params[0].data - 0.5 * params[0].grad
    optimizer.step()
    np.testing.assert_allclose(params[0].data, expected, rtol=1e-15)


class Net(Module):
    """Parameters named as layers name theirs."""

    def __init__(self, **shapes):
        for name, shape in shapes.items():
            setattr(self, name, Parameter(np.ones(shape, np.float32)))


def test_decay_groups():
    model = Net(bias=(3,))
    model.conv = Net(weight=(4, 3, 2, 2), bias=(4,))
    model.norm = Net(weight=(4,), bias=(4,))
    model.linear = Net(weight=(4, 3), bias=(3,))
    decayed, others = decay_groups(model, 0.01)
    assert decayed == {"params": [model.conv.weight, model.linear.weight], "weight_decay": 0.01}
    assert others["weight_decay"] == 0
    assert [p.shape for p in others["params"]] == [(3,), (4,), (4,), (4,), (3,)]
    SGD([decayed, others], 0.5).step()
    assert (model.linear.weight.data == np.float32(1 - 0.5 * 0.01)).all()
    assert (model.norm.weight.data == 1).all()


def test_decay_groups_are_never_empty():
    assert [group["weight_decay"] for group in decay_groups(Net(weight=(2, 3)), 0.1)] == [0.1]
    assert [group["weight_decay"] for group in decay_groups(Net(weight=(2,)), 0.1)] == [0]


# -- state ----------------------------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(kind, options, dtype):
    def a_run(seed=4):
        params = parameters(np.random.default_rng(seed), dtype)
        return params, kind([{"params": params[:1], "lr": 0.03}, {"params": params[1:]}], **options)

    rng = np.random.default_rng(5)
    params, optimizer = a_run()
    for _ in range(4):
        set_gradients(params, rng)
        optimizer.step()
    state = optimizer.state_dict()
    resumed_params, resumed = a_run(seed=6)
    for parameter, source in zip(resumed_params, params, strict=True):
        parameter.data[...] = source.data
    resumed.load_state_dict(state)
    for _ in range(4):
        set_gradients(params, rng)
        for parameter, source in zip(resumed_params, params, strict=True):
            parameter.grad[...] = source.grad
        optimizer.step()
        resumed.step()
    for parameter, source in zip(resumed_params, params, strict=True):
        np.testing.assert_array_equal(parameter.data, source.data)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(resumed.state_dict()[name], array)


@every_optimizer
def test_state_is_a_copy(kind, options):
    rng = np.random.default_rng(9)
    params = parameters(rng)
    optimizer = kind(params, **options)
    state = optimizer.state_dict()
    set_gradients(params, rng)
    optimizer.step()
    assert not any(array.any() for array in state.values())
    assert all(array.any() for array in optimizer.state_dict().values())


@pytest.mark.parametrize(
    ("kind", "options", "slots"),
    [
        (SGD, {"lr": 0.1}, []),
        (SGD, {"lr": 0.1, "momentum": 0.9}, ["velocity"]),
        (RMSProp, {}, ["square_avg"]),
        (Adam, {}, ["m", "v"]),
        (AdamW, {}, ["m", "v"]),
    ],
    ids=str,
)
def test_names_of_the_state(kind, options, slots):
    params = parameters(np.random.default_rng(7), np.float32)
    state = kind([{"params": params[:1]}, {"params": params[1:]}], **options).state_dict()
    assert set(state) == {"step"} | {f"{i}.{slot}" for i in range(3) for slot in slots}
    assert all(type(array) is np.ndarray for array in state.values())
    assert state["step"].shape == ()
    for slot in slots:
        assert (state[f"2.{slot}"].shape, state[f"2.{slot}"].dtype) == (params[2].shape, np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"1.m": None}, ValueError, r"\[Adam\] the state lacks 1.m: it is of another optimizer or model"),
        ({"step": None}, ValueError, "the state lacks step"),
        ({"3.m": np.zeros(4)}, ValueError, "the state has unknown 3.m: it is of another optimizer"),
        ({"1.m": np.zeros(5)}, ValueError, r"expected 1.m of shape \(4,\), got \(5,\)"),
        ({"1.m": np.zeros(4, np.float32)}, TypeError, "expected 1.m of dtype float64, got float32"),
        ({"step": np.array(-1)}, ValueError, "expected step to be a whole number from 0 up, got array"),
        ({"step": np.array(1.5)}, ValueError, "expected step to be a whole number"),
        ({"step": np.array([1])}, ValueError, "expected step to be a whole number"),
    ],
)
def test_state_that_does_not_fit_is_refused_whole(change, error, message):
    rng = np.random.default_rng(8)
    params = parameters(rng)
    optimizer = Adam(params)
    set_gradients(params, rng)
    optimizer.step()
    before = optimizer.state_dict()
    state = {name: array + 1 for name, array in before.items()} | change
    with pytest.raises(error, match=message):
        optimizer.load_state_dict({name: array for name, array in state.items() if array is not None})
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# -- clipping -------------------------------------------------------------------------------------------------


def test_clip_grad_norm():
    params = [Parameter(np.zeros((1, 2), np.float32)), Parameter(np.zeros(1, np.float32))]
    params[0].grad[...], params[1].grad[...] = [[2, -3]], 6
    assert clip_grad_norm(params, 8) == 7
    np.testing.assert_array_equal(params[0].grad, [[2, -3]])
    assert clip_grad_norm(iter(params), 3.5) == 7
    np.testing.assert_allclose(params[0].grad, [[1, -1.5]], rtol=1e-6)
    np.testing.assert_allclose(params[1].grad, [3], rtol=1e-6)
    assert params[0].grad.dtype == np.float32
    assert clip_grad_norm([], 1.0) == 0


def test_clip_grad_norm_of_gradients_whose_squares_leave_float32():
    parameter = Parameter(np.zeros(2, np.float32))
    parameter.grad[...] = [3e30, 4e30]
    assert clip_grad_norm([parameter], 1.0) == pytest.approx(5e30, rel=1e-6)
    np.testing.assert_allclose(parameter.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_clip_grad_norm_leaves_gradients_that_are_not_finite(value):
    parameter = Parameter(np.zeros(3))
    parameter.grad[...] = [value, 1, 2]
    assert not np.isfinite(clip_grad_norm([parameter], 0.1))
    np.testing.assert_array_equal(parameter.grad, [value, 1, 2])


def test_clip_grad_norm_makes_no_copies():
    parameter = Parameter(np.ones((1000, 1000), np.float32))
    parameter.grad[...] = 3
    tracemalloc.start()
    try:
        assert clip_grad_norm([parameter], 1.0) == 3000
        assert tracemalloc.get_traced_memory()[1] < 200_000  # einsum's buffer, where the gradient takes 4 MB
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(parameter.grad, 0.001, rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0, -1, np.nan, "1"])
def test_clip_grad_norm_refuses(max_norm):
    with pytest.raises(ValueError, match="clip_grad_norm: max_norm must be a number above 0, got "):
        clip_grad_norm([], max_norm)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: clip_grad_norm(Sequential(model), 1), r"got a Sequential: pass model\.parameters\(\)$"),
        (lambda model: clip_grad_norm(model.parameters(), 1, norm_type=2), r"'norm_type': the norm is L2"),
    ],
)
def test_clip_grad_norm_of_something_else(call, said):
    with pytest.raises(TypeError, match=rf"^clip_grad_norm.*{said}"):
        call(Linear(3, 2))


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (
            SGD,
            {"lr": -0.1},
            ValueError,
            r"\[SGD\] lr of group 0 must be at least 0 and less than 3.40282e\+38, got -0.1",
        ),
        (SGD, {"lr": np.nan}, ValueError, "lr of group 0 must be .*got nan"),
        (SGD, {"lr": np.inf}, ValueError, "lr of group 0 must be .*got inf"),
        (SGD, {"lr": "0.1"}, TypeError, "lr of group 0 must be a number, got '0.1'"),
        (SGD, {"lr": 0.1, "momentum": 1}, ValueError, "momentum must be at least 0 and less than 1, got 1"),
        (SGD, {"lr": 0.1, "nesterov": True}, ValueError, "nesterov needs a momentum above 0"),
        (SGD, {"lr": 0.1, "weight_decay": -1}, ValueError, "weight_decay of group 0 must be at least 0"),
        (RMSProp, {"alpha": 1.0}, ValueError, r"\[RMSProp\] alpha must be at least 0 and less than 1, got 1.0"),
        (RMSProp, {"eps": -1e-8}, ValueError, "eps must be at least 0"),
        (
            Adam,
            {"betas": (0.9, 1.0)},
            ValueError,
            r"\[Adam\] betas\[1\] must be at least 0 and less than 1, got 1.0",
        ),
        (AdamW, {"betas": 0.9}, TypeError, r"\[AdamW\] betas must be a pair of numbers, got 0.9"),
        (Adam, {"eps": np.nan}, ValueError, "eps must be .*got nan"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind([Parameter(np.zeros(2))], **options)


PARAMETER = Parameter(np.zeros(2))
READ_ONLY = Parameter(np.zeros(2))
READ_ONLY.data.flags.writeable = False


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (PARAMETER, TypeError, r"\[SGD\] expected Parameters .* got a Parameter: pass model.parameters\(\)"),
        ([], ValueError, r"\[SGD\] got no parameters: pass model.parameters\(\)"),
        ([{"params": []}], ValueError, "group 0 has no params"),
        ([{"lr": 0.1}], ValueError, "group 0 has no params"),
        (
            [{"params": [PARAMETER], "momentum": 0.5}],
            ValueError,
            "group 0 has unknown momentum: a group has params, ",
        ),
        ([{"params": [PARAMETER]}, {"params": [PARAMETER]}], ValueError, "of group 1 was given before"),
        ([PARAMETER, PARAMETER], ValueError, "would be updated twice a step"),
        (
            [{"params": [PARAMETER]}, PARAMETER],
            TypeError,
            "expected only groups or only Parameters, got Parameter",
        ),
        ([np.zeros(2)], TypeError, "group 0: expected Parameters, got ndarray"),
        ([Parameter(np.zeros((4, 3)).T)], ValueError, "must be C-contiguous and writeable"),
        ([READ_ONLY], ValueError, "must be C-contiguous and writeable"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(params, error, message):
    with pytest.raises(error, match=message):
        SGD(params, 0.1)


@pytest.mark.parametrize("lr_factor", [-0.1, np.nan, np.inf])
def test_lr_factor_that_does_not_fit_is_refused_before_anything_changes(lr_factor):
    parameter = Parameter(np.ones(2))
    parameter.grad[...] = 1
    optimizer = Adam([parameter])
    with pytest.raises(ValueError, match=r"\[Adam\] lr_factor must be at least 0 and less than 3.40282e\+38"):
        optimizer.step(lr_factor)
    assert optimizer.steps == 0
    assert (parameter.data == 1).all()


@every_optimizer
def test_arrays_assigned_to_parameters_are_taken_in(kind, options):
    rng = np.random.default_rng(0)
    params, twins = parameters(rng, np.float32), parameters(np.random.default_rng(0), np.float32)
    held = [(parameter.data, parameter.grad) for parameter in params]
    optimizer, twin = kind(params, **options), kind(twins, **options)
    for _ in range(2):
        for parameter, other in zip(params, twins, strict=True):
            parameter.data = parameter.data + 1
            parameter.grad = rng.normal(size=parameter.shape).astype(np.float32)
            other.data += 1
            other.grad[...] = parameter.grad
        optimizer.step()
        twin.step()
        for parameter, other, (data, grad) in zip(params, twins, held, strict=True):
            assert np.array_equal(parameter.data, other.data)
            assert parameter.data is data
            assert parameter.grad is grad


# -- copies ---------------------------------------------------------------------------------------------------


def through_deepcopy(value):
    return copy.deepcopy(value)


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


@every_optimizer
@pytest.mark.parametrize("copied", [through_deepcopy, through_pickle])
@pytest.mark.parametrize("steps_before", [0, 3])
def test_copies_train_as_the_original_does(kind, options, copied, steps_before):
    rng = np.random.default_rng(0)
    params = parameters(rng, np.float32)
    optimizer = kind([{"params": params[:1], "lr": 0.01}, {"params": params[1:]}], **options)
    for _ in range(steps_before):
        set_gradients(params, rng)
        optimizer.step(0.5)
    copies, twin = copied((params, optimizer))
    start = [parameter.data.copy() for parameter in params]
    for _ in range(3):
        set_gradients(params, rng)
        for parameter, other in zip(params, copies, strict=True):
            other.grad = parameter.grad
        twin.step()
        for parameter, before in zip(params, start, strict=True):
            assert np.array_equal(parameter.data, before)
        optimizer.step()
        start = [parameter.data.copy() for parameter in params]
        for parameter, other in zip(params, copies, strict=True):
            assert np.array_equal(parameter.data, other.data)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], array)


def test_spawned_processes_train_as_this_one_does():
    pairs = []
    for lr in (0.1, 0.2):
        model = Linear(5, 3, rng=np.random.default_rng(0))
        pairs.append((model, Adam(model.parameters(), lr)))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        theirs = [result.result(timeout=60) for result in [pool.submit(three_steps, *pair) for pair in pairs]]
    for pair, result in zip(pairs, theirs, strict=True):
        for path, array in three_steps(*pair).items():
            np.testing.assert_array_equal(result[path], array)


# -- what is not trained --------------------------------------------------------------------------------------


@every_optimizer
def test_parameters_that_are_not_trained_are_passed_over_with_their_state(kind, options):
    rng = np.random.default_rng(0)
    params = parameters(rng)
    optimizer = kind(params, **options)
    for frozen in (0, 2):
        for parameter in params:
            parameter.requires_grad = parameter is not params[frozen]
        before, state = [p.data.copy() for p in params], optimizer.state_dict()
        set_gradients(params, rng)
        optimizer.step()
        for i, (parameter, was) in enumerate(zip(params, before, strict=True)):
            assert np.array_equal(parameter.data, was) == (i == frozen)
        for name, array in optimizer.state_dict().items():
            if name != "step":
                assert np.array_equal(array, state[name]) == name.startswith(f"{frozen}.")


def test_an_optimizer_of_nothing_trained_says_so_instead_of_stepping():
    model = Linear(3, 2)
    optimizer = SGD(model.parameters(), 0.1)
    model.trainable = False
    with pytest.raises(ValueError, match=r"\[SGD\] none of its parameters is trained: set requires_grad"):
        optimizer.step()
    assert optimizer.steps == 0


def test_clip_grad_norm_passes_over_what_is_not_trained():
    params = [Parameter(np.zeros(2)), Parameter(np.zeros(2), requires_grad=False)]
    params[0].grad[...], params[1].grad[...] = [3, 4], [30, 40]
    assert clip_grad_norm(params, 2.5) == 5
    np.testing.assert_allclose(params[0].grad, [1.5, 2], rtol=1e-6)
    np.testing.assert_array_equal(params[1].grad, [30, 40])


# -- what is assigned to an optimizer -------------------------------------------------------------------------


def test_lr_is_that_of_all_groups():
    params = parameters(np.random.default_rng(0))
    optimizer = SGD([{"params": params[:1], "lr": 0.5}, {"params": params[1:]}], 0.1)
    with pytest.raises(ValueError, match=r"\[SGD\] the groups have different lr: read groups\[i\]"):
        _ = optimizer.lr
    optimizer.lr = 0.25
    assert optimizer.lr == 0.25
    assert [group["lr"] for group in optimizer.groups] == [0.25, 0.25]
    before = params[0].data.copy()
    params[0].grad[...] = 2
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, before - 0.5)


@pytest.mark.parametrize(
    ("assign", "error", "message"),
    [
        (lambda o: setattr(o, "lr", "fast"), TypeError, "lr must be a number, got 'fast'"),
        (lambda o: setattr(o, "lr", np.nan), ValueError, "lr must be at least 0 and less than"),
        (lambda o: o.groups[1].update(lr="x"), TypeError, "lr of group 1 must be a number, got 'x'"),
        (lambda o: o.groups[1].update(lr=None), TypeError, "lr of group 1 must be a number, got None"),
        (lambda o: o.groups[1].pop("lr"), ValueError, "group 1 has .* expected params, lr and weight_decay"),
        (lambda o: o.groups[1].update(momentum=0.5), ValueError, "group 1 has .*'momentum'.*: expected params"),
        (lambda o: o.groups[1].update(lr=np.nan), ValueError, "lr of group 1 must be .*got nan"),
        (lambda o: o.groups[1].update(lr=10**400), ValueError, "lr of group 1 must be .*got 1000"),
        (lambda o: o.groups[1].update(lr=-1), ValueError, "lr of group 1 must be .*got -1"),
        (lambda o: o.groups[1].update(weight_decay=np.inf), ValueError, "weight_decay of group 1 .*got inf"),
        (lambda o: o.groups[1]["params"].pop(), ValueError, "the parameters of its groups were changed"),
        (lambda o: o.groups.pop(), ValueError, "the parameters of its groups were changed"),
        (
            lambda o: setattr(o, "momentum", 1.0),
            ValueError,
            "momentum must be at least 0 and less than 1, got 1.0",
        ),
        (
            lambda o: setattr(o, "momentum", 0),
            ValueError,
            "momentum cannot be set to 0: it was made with momentum",
        ),
        (lambda o: setattr(o, "nesterov", "no"), TypeError, "nesterov must be True or False, got 'no'"),
    ],
)
def test_what_is_assigned_is_checked_before_anything_changes(assign, error, message):
    params = parameters(np.random.default_rng(0), np.float32)
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], 0.1, momentum=0.9)
    before = [parameter.data.copy() for parameter in params]
    set_gradients(params, np.random.default_rng(1))

    def attempt():
        assign(optimizer)
        optimizer.step()

    with pytest.raises(error, match=message):
        attempt()
    assert optimizer.steps == 0
    for parameter, array in zip(params, before, strict=True):
        np.testing.assert_array_equal(parameter.data, array)


@pytest.mark.parametrize("name", ["lr", "weight_decay", "eps"])
@pytest.mark.parametrize("value", [10**400, 1e39, np.inf, np.nan, -1, True, "1", None, np.array(1.0)], ids=repr)
def test_numbers_that_float32_cannot_hold_and_what_is_no_number_are_refused(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"\[Adam\] {name}"):
        Adam([Parameter(np.zeros(2, np.float32))], **{name: value})


def test_numbers_of_any_real_type_are_taken():
    parameter = Parameter(np.zeros(2, np.float32))
    parameter.grad[...] = 1
    SGD([parameter], Fraction(1, 2), momentum=np.float32(0.5), weight_decay=np.int64(0)).step()
    np.testing.assert_array_equal(parameter.data, [-0.5, -0.5])
