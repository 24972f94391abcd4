"""What every op promises: a twin, the same bits on any threads and in any memory order, and plain refusals."""

import importlib
import inspect
import sys

import numpy as np
import pytest
from kernel_cases import CASES, WRITTEN, Arrays, assert_close, op_name, outcome

import cnn_ext
from cnn_ext import reference

ADMINISTRATION = {
    "Updates",
    "available_cpus",
    "blocked",
    "get_num_threads",
    "isa",
    "openmp_enabled",
    "reference",
    "set_num_threads",
}
ADMINISTRATION |= {"supported_isas"}
OPS = sorted(set(cnn_ext.__all__) - ADMINISTRATION)
ARRAY_ARGUMENTS = [
    (case, name)
    for case, make in CASES.items()
    for name, value in make(Arrays(np.float64)).items()
    if isinstance(value, np.ndarray) and name not in {"argmax", "labels"}
]

ANY_SHAPE = {f"{function}_forward" for function in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu")}


def takes_one_array(case):
    return [pair[0] for pair in ARRAY_ARGUMENTS].count(case) == 1


each_case = pytest.mark.parametrize("case", CASES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_array = pytest.mark.parametrize(("case", "name"), ARRAY_ARGUMENTS)


def run(case, dtype):
    return outcome(getattr(cnn_ext, op_name(case)), CASES[case](Arrays(dtype)))


@pytest.fixture
def any_number_of_threads(monkeypatch):
    """Threads at work even on small arrays; the number is put back afterwards."""
    monkeypatch.setattr("cnn_ext.threads._WORTH_THREADS", 0)
    before = cnn_ext.get_num_threads()
    yield
    cnn_ext.set_num_threads(before)


def test_every_op_has_a_twin_and_a_case():
    assert sorted(reference.__all__) == OPS
    assert {op_name(case) for case in CASES} == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_twin_has_the_same_signature(op):
    assert inspect.signature(getattr(reference, op)) == inspect.signature(getattr(cnn_ext, op))


@pytest.mark.parametrize("op", OPS)
def test_op_has_a_docstring(op):
    assert inspect.getdoc(getattr(cnn_ext, op))


@each_case
@each_dtype
@pytest.mark.parametrize("isa", cnn_ext.supported_isas())
def test_every_instruction_set_agrees_with_the_twin(case, dtype, isa, monkeypatch):
    kernels = importlib.import_module(f"cnn_ext._{isa}")
    for name, module in list(sys.modules.items()):
        if name.startswith("cnn_ext.ops."):
            monkeypatch.setattr(module, "kernels", kernels)
    in_float64 = {
        name: value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == dtype else value
        for name, value in CASES[case](Arrays(dtype)).items()
    }
    expected = outcome(getattr(reference, op_name(case)), in_float64)
    for actual, correct in zip(run(case, dtype), expected, strict=True):
        assert_close(actual, correct, np.int64 if correct.dtype == np.int64 else dtype)


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="the build has one thread only")
@each_case
@each_dtype
def test_same_bits_on_any_number_of_threads(case, dtype, any_number_of_threads):
    cnn_ext.set_num_threads(1)
    expected = [array.tobytes() for array in run(case, dtype)]
    for n in (2, 3, 4):
        cnn_ext.set_num_threads(n)
        assert [array.tobytes() for array in run(case, dtype)] == expected, f"{n} threads"


def strided(array):
    """`array` as every other element, backwards, of a larger one."""
    wide = np.zeros([2 * size for size in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


def read_only(array):
    array.setflags(write=False)
    return array


@each_case
@pytest.mark.parametrize("layout", [strided, np.asfortranarray, unaligned, read_only])
def test_any_memory_order_is_accepted_and_left_alone(case, layout):
    arguments = CASES[case](Arrays(np.float32))
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and name not in WRITTEN:
            arguments[name] = layout(value)
    before = {name: np.array(value) for name, value in arguments.items() if name not in WRITTEN}
    actual = outcome(getattr(cnn_ext, op_name(case)), arguments)
    for a, e in zip(actual, run(case, np.float32), strict=True):
        np.testing.assert_array_equal(a, e)
        assert a.flags.c_contiguous
    for name, value in before.items():
        np.testing.assert_array_equal(arguments[name], value)


def refuses(case, arguments, error, message):
    with pytest.raises(error, match=rf"(?s)^{op_name(case)}: .*{message}"):
        getattr(cnn_ext, op_name(case))(**arguments)


@each_array
def test_other_dtypes_are_refused(case, name):
    arguments = CASES[case](Arrays(np.float64))
    refuses(case, {**arguments, name: arguments[name].astype(np.int64)}, TypeError, f"{name} must be float32")
    refuses(case, {**arguments, name: arguments[name].astype(np.complex128)}, TypeError, f"{name} must be float32")


@pytest.mark.parametrize(("case", "name"), [pair for pair in ARRAY_ARGUMENTS if not takes_one_array(pair[0])])
def test_mixed_dtypes_are_refused(case, name):
    arguments = CASES[case](Arrays(np.float64))
    refuses(case, {**arguments, name: arguments[name].astype(np.float32)}, TypeError, "float.*convert one")


@each_array
def test_empty_arrays_are_refused(case, name):
    arguments = CASES[case](Arrays(np.float64))
    refuses(case, {**arguments, name: arguments[name][:0]}, ValueError, "at least 1|expected .* of shape")


@pytest.mark.parametrize(
    ("case", "name"),
    [pair for pair in ARRAY_ARGUMENTS if op_name(pair[0]) not in ANY_SHAPE],
)
def test_another_axis_is_refused(case, name):
    arguments = CASES[case](Arrays(np.float64))
    refuses(case, {**arguments, name: arguments[name][..., None]}, ValueError, "expected .* of shape")
