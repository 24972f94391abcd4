"""Optimizers and schedules beside PyTorch's, where PyTorch is installed: 50 steps on the same gradients."""

import numpy as np
import pytest

from pynn.module import Parameter
from pynn.optim import SGD, Adam, AdamW, RMSProp, clip_grad_norm
from pynn.schedules import Cosine, Exponential, OneCycle, Schedule, StepDecay, Warmup

torch = pytest.importorskip("torch")
SHAPES = [(4, 3, 5, 2), (7, 11), (11,), (1,)]
# PyTorch puts the top at step pct_start·T − 1, and its final_div_factor counts from the initial lr
ONE_CYCLE = {"pct_start": 10 / 41, "div_factor": 20, "final_div_factor": 25, "cycle_momentum": False}


def twin_parameters(rng, dtype):
    ours = [Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]
    return ours, [torch.tensor(parameter.data.copy(), requires_grad=True) for parameter in ours]


@pytest.mark.parametrize(
    ("kind", "options", "torch_kind"),
    [
        (SGD, {"lr": 0.1}, "SGD"),
        (SGD, {"lr": 0.1, "weight_decay": 0.05}, "SGD"),
        (SGD, {"lr": 0.1, "momentum": 0.9}, "SGD"),
        (SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}, "SGD"),
        (SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}, "SGD"),
        (SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}, "SGD"),
        (RMSProp, {}, "RMSprop"),
        (RMSProp, {"lr": 3e-3, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.05}, "RMSprop"),
        (Adam, {}, "Adam"),
        (Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}, "Adam"),
        (AdamW, {}, "AdamW"),
        (AdamW, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}, "AdamW"),
    ],
    ids=str,
)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_50_steps(kind, options, torch_kind, dtype, rtol):
    rng = np.random.default_rng(0)
    ours, theirs = twin_parameters(rng, dtype)
    optimizer = kind(ours, **options)
    torch_optimizer = getattr(torch.optim, torch_kind)(theirs, **options)
    for _ in range(50):
        for parameter, tensor in zip(ours, theirs, strict=True):
            # the gradient of a quadratic plus noise: parameters both converge and jitter
            parameter.grad[...] = parameter.data + rng.normal(size=parameter.shape)
            tensor.grad = torch.tensor(parameter.grad.copy())
        optimizer.step()
        torch_optimizer.step()
    for parameter, tensor in zip(ours, theirs, strict=True):
        expected = tensor.detach().numpy()
        np.testing.assert_allclose(parameter.data, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def test_groups_and_schedule():
    rng = np.random.default_rng(1)
    ours, theirs = twin_parameters(rng, np.float64)
    optimizer = AdamW([{"params": ours[:2], "weight_decay": 0.2}, {"params": ours[2:], "lr": 0.03}], lr=0.01)
    torch_optimizer = torch.optim.AdamW(
        [{"params": theirs[:2], "weight_decay": 0.2}, {"params": theirs[2:], "lr": 0.03}], lr=0.01
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch_optimizer, 50)
    for step in range(50):
        for parameter, tensor in zip(ours, theirs, strict=True):
            parameter.grad[...] = rng.normal(size=parameter.shape)
            tensor.grad = torch.tensor(parameter.grad.copy())
        optimizer.step(lr_factor=Cosine()(step, 50))
        torch_optimizer.step()
        scheduler.step()
    for parameter, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(parameter.data, tensor.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("max_norm", [0.5, 1e3, float("inf")])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_clip_grad_norm(max_norm, dtype, rtol):
    rng = np.random.default_rng(2)
    ours, theirs = twin_parameters(rng, dtype)
    for parameter, tensor in zip(ours, theirs, strict=True):
        parameter.grad[...] = rng.normal(size=parameter.shape)
        tensor.grad = torch.tensor(parameter.grad.copy())
    norm = clip_grad_norm(ours, max_norm)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item(), rel=rtol)
    for parameter, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=rtol)


@pytest.mark.parametrize(
    ("schedule", "torch_schedule"),
    [
        (StepDecay(7, 0.3), lambda o, lr: lr.StepLR(o, 7, 0.3)),
        (Exponential(0.93), lambda o, lr: lr.ExponentialLR(o, 0.93)),
        (Cosine(), lambda o, lr: lr.CosineAnnealingLR(o, 41)),
        (Cosine(0.05), lambda o, lr: lr.CosineAnnealingLR(o, 41, eta_min=0.05)),
        (Warmup(5), lambda o, lr: lr.LinearLR(o, 1 / 6, total_iters=5)),
        (OneCycle(9 / 40, 20, 500), lambda o, lr: lr.OneCycleLR(o, 1, 41, anneal_strategy="cos", **ONE_CYCLE)),
        (
            OneCycle(9 / 40, 20, 500, "linear"),
            lambda o, lr: lr.OneCycleLR(o, 1, 41, anneal_strategy="linear", **ONE_CYCLE),
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, Schedule) else "",
)
def test_schedules(schedule, torch_schedule):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch_schedule(optimizer, torch.optim.lr_scheduler)
    for step in range(41):
        assert schedule(step, 41) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        if step < 40:
            scheduler.step()
