"""Losses and their gradients beside PyTorch's, where PyTorch is installed."""

import numpy as np
import pytest

from pynn.losses import (
    CrossEntropyLoss,
    HingeLoss,
    LogisticLoss,
    MSELoss,
    MultiClassHingeLoss,
    SquaredHingeLoss,
)

torch = pytest.importorskip("torch")
F = torch.nn.functional
N, K = 17, 6


def weston_watkins(scores, y, margin=1.0):
    return F.multi_margin_loss(scores, y, margin=margin) * K


@pytest.mark.parametrize(
    ("loss_fn", "torch_loss", "kind"),
    [
        (LogisticLoss(), lambda s, y: F.binary_cross_entropy_with_logits(s, y.to(s.dtype)), "binary"),
        (LogisticLoss(), lambda s, y: -F.logsigmoid((2 * y - 1) * s).mean(), "binary"),
        (HingeLoss(), lambda s, y: F.relu(1 - (2 * y - 1) * s).mean(), "binary"),
        (SquaredHingeLoss(), lambda s, y: F.relu(1 - (2 * y - 1) * s).square().mean(), "binary"),
        (MultiClassHingeLoss(), weston_watkins, "classes"),
        (MultiClassHingeLoss(0.3), lambda s, y: weston_watkins(s, y, 0.3), "classes"),
        (CrossEntropyLoss(), F.cross_entropy, "classes"),
        (CrossEntropyLoss(0.1), lambda s, y: F.cross_entropy(s, y, label_smoothing=0.1), "classes"),
        (CrossEntropyLoss(1.0), lambda s, y: F.cross_entropy(s, y, label_smoothing=1.0), "classes"),
        (MSELoss(), F.mse_loss, "values"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_loss_and_gradient(loss_fn, torch_loss, kind, scale, dtype, rtol):
    rng = np.random.default_rng(0)
    scores = (scale * rng.normal(size=N if kind == "binary" else (N, K))).astype(dtype)
    y = {
        "binary": rng.integers(0, 2, N),
        "classes": rng.integers(0, K, N),
        "values": rng.normal(size=(N, K)).astype(dtype),
    }[kind]
    torch_scores = torch.tensor(scores, requires_grad=True)
    expected = torch_loss(torch_scores, torch.tensor(y))
    expected.backward()
    loss, dscores = loss_fn(scores, y)
    assert loss == pytest.approx(expected.item(), rel=rtol)
    gradient = torch_scores.grad.numpy()
    np.testing.assert_allclose(dscores, gradient, rtol=rtol, atol=rtol * np.abs(gradient).max())
