"""The number of threads: what is accepted, where the default comes from, and what a forked child does."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import cnn_ext
from cnn_ext import threads

needs_openmp = pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")


@pytest.fixture(autouse=True)
def restored():
    before = cnn_ext.get_num_threads()
    yield
    cnn_ext.set_num_threads(before)


@needs_openmp
def test_set_and_get():
    cnn_ext.set_num_threads(3)
    assert cnn_ext.get_num_threads() == 3


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (-2, ValueError), (257, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_nonsense_is_refused(n, error):
    before = cnn_ext.get_num_threads()
    with pytest.raises(error, match=r"set_num_threads: expected .* got"):
        cnn_ext.set_num_threads(n)
    assert cnn_ext.get_num_threads() == before


def test_without_openmp_there_is_one_thread(monkeypatch):
    monkeypatch.setattr(threads, "openmp_enabled", lambda: False)
    with pytest.raises(ValueError, match="no OpenMP"):
        cnn_ext.set_num_threads(2)
    cnn_ext.set_num_threads(1)


@needs_openmp
def test_small_work_stays_on_one_thread():
    cnn_ext.set_num_threads(2)
    assert threads.threads_for(100) == 1
    assert threads.threads_for(10**7) == 2


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({}, math.inf),
    ],
)
def test_container_quota(tmp_path, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert threads._cgroup_quota(str(tmp_path)) == quota


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.9, 1), (math.inf, None)])
def test_default_obeys_quota_and_affinity(monkeypatch, quota, expected):
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: quota)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cnn_ext.available_cpus() == (expected or allowed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@needs_openmp
def test_a_forked_child_works_on_one_thread():
    """After fork the OpenMP pool's threads are gone; a child that waited for them would hang."""
    code = """
import os, sys
import numpy as np
import cnn_ext
cnn_ext.set_num_threads(2)
x, w = np.ones((8, 16, 16, 16), np.float32), np.ones((16, 16, 3, 3), np.float32)
expected = cnn_ext.conv2d_forward(x, w)
pid = os.fork()
if pid == 0:
    same = np.array_equal(cnn_ext.conv2d_forward(x, w), expected)
    os._exit(0 if same and cnn_ext.get_num_threads() == 1 else 3)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert cnn_ext.get_num_threads() == 2
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@needs_openmp
def test_a_forked_child_works_with_what_its_parent_built():
    """Plans and steps that the parent made and ran on two threads, trained and asked again in the child."""
    code = """
import os
import numpy as np
import pynn
from pynn.engine import Trainer

pynn.set_num_threads(2)
rng = np.random.default_rng(0)
model = pynn.Sequential(
    pynn.Conv2d(3, 16, 3, padding=1, rng=rng), pynn.BatchNorm2d(16), pynn.ReLU(), pynn.MaxPool2d(2),
    pynn.Conv2d(16, 32, 3, rng=rng), pynn.ReLU(), pynn.Flatten(), pynn.Linear(1152, 10, rng=rng),
)
x, labels = rng.standard_normal((48, 3, 16, 16)).astype(np.float32), np.arange(48) % 10
trainer, frozen, loss = Trainer(model), pynn.freeze(model), pynn.CrossEntropyLoss()

def everything():
    scores = trainer.forward(x)
    trainer.backward(loss(scores, labels)[1])
    trainer.reject()
    return [scores.copy(), *(p.grad.copy() for p in model.parameters()), frozen(x), frozen(x[:1])]

expected = everything()
pid = os.fork()
if pid == 0:
    try:
        same = all(map(np.array_equal, everything(), expected))
        try:
            pynn.set_num_threads(2)
        except ValueError as error:
            same = same and "forked" in str(error)
        else:
            same = False
        os._exit(0 if same else 3)
    finally:
        os._exit(4)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert all(map(np.array_equal, everything(), expected))
pynn.set_num_threads(2)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@needs_openmp
def test_a_step_that_is_asked_for_threads_in_a_forked_child_does_not_wait_for_them():
    code = """
import os
import numpy as np
from cnn_ext import blocked

shape = (96, 64, 32, 32)
x, out = (blocked.Blocks(np.ones(blocked.blocks_size(shape, 16), np.float32), shape, 16) for _ in range(2))
step = blocked.activation("tanh", x, out)
step(2)
pid = os.fork()
if pid == 0:
    step(2)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
step(2)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=20, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_openmp
@pytest.mark.parametrize(("own", "expected"), [({}, "3000"), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(own, expected):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    code = "import os; before = dict(os.environ); import cnn_ext; assert dict(os.environ) == before"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | own | {"OMP_DISPLAY_ENV": "verbose"},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("not GNU's OpenMP library")
    assert f"GOMP_SPINCOUNT = '{expected}'" in done.stderr


@pytest.mark.parametrize("wanted", ["", *cnn_ext.supported_isas()])
def test_the_best_instruction_set_or_the_one_asked_for_is_used(wanted):
    done = subprocess.run(
        [sys.executable, "-c", "import cnn_ext; print(cnn_ext.isa, cnn_ext.isa in cnn_ext.supported_isas())"],
        env=os.environ | {"PYNN_ISA": wanted},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [wanted or cnn_ext.supported_isas()[0], "True"], done.stderr


def test_an_unknown_instruction_set_is_refused():
    done = subprocess.run(
        [sys.executable, "-c", "import cnn_ext"],
        env=os.environ | {"PYNN_ISA": "mmx"},
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "PYNN_ISA is 'mmx', but this processor runs" in done.stderr


@needs_openmp
def test_python_threads_may_call_kernels_at_once():
    """Scratch memory belongs to the calling thread: calls that overlap must not see each other's."""
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((4, 8, 12, 12)).astype(np.float32) for _ in range(8)]
    weight = rng.standard_normal((8, 8, 3, 3)).astype(np.float32)
    expected = [cnn_ext.conv2d_forward(x, weight) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            results = list(pool.map(lambda x: cnn_ext.conv2d_forward(x, weight), xs))
            for actual, e in zip(results, expected, strict=True):
                np.testing.assert_array_equal(actual, e)
