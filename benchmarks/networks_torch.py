"""Owns the six networks in PyTorch, layer for layer as in pynn so that the paths of the weights are the same.

Variants: eager; channels_last, model and batches in that memory format; compile, the model by torch.compile.
"""

import torch
from networks_worker import ADAM_LR, CASES, DROPOUT, MOMENTUM, SGD_LR
from torch import nn

INFERENCE = torch.inference_mode()


def build(network: str, dropout: float) -> nn.Sequential:
    if network == "mlp":
        return nn.Sequential(nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 10))
    if network == "cnn7":
        return cnn(kernel_size=7, hidden=16)
    if network == "cnn5":
        return cnn(kernel_size=5, hidden=512)
    if network == "cnn_bn":
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 7, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 11 * 11, 100, bias=False), nn.BatchNorm1d(100), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(100, 10),
        )
    return vgg() if network == "vgg" else airbench94()


def cnn(kernel_size: int, hidden: int) -> nn.Sequential:
    size = (28 - kernel_size + 1) // 2
    return nn.Sequential(
        *(nn.Conv2d(1, 32, kernel_size), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(32 * size * size, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    )


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for number, after in enumerate((8, 16, 32, 32, 64, 64, 64, 64), start=1):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number in (1, 2, 4, 6, 8) else []
        before = after
    head = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(*layers, nn.Flatten(), *head)


def airbench94() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
    for before, after in ((24, 64), (64, 256), (256, 256)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(after), nn.GELU()]
        layers += [nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(256, 10, bias=False))


def load(job, state, dropout: float) -> nn.Sequential:
    """The network with pynn's weights, whose linear layers have (in, out) where PyTorch's have (out, in)."""
    model = build(job.network, dropout)
    own = {path: tensor for path, tensor in model.state_dict().items() if not path.endswith("num_batches_tracked")}
    if own.keys() != state.keys():
        raise ValueError(f"{job.network}: only one has the weights {sorted(own.keys() ^ state.keys())}")
    linear = {f"{path}.weight" for path, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for path, tensor in own.items():
        array = torch.from_numpy(state[path])
        tensor.copy_(array.T if path in linear else array)
    if job.variant == "channels_last":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def convert(job, x, y):
    torch.set_num_threads(job.threads)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    return (x.contiguous(memory_format=torch.channels_last) if job.variant == "channels_last" else x), y


def trainer(job, state, dropout):
    model = load(job, state, dropout).train()
    if CASES[job.network].sgd:
        momentum = {"momentum": MOMENTUM, "nesterov": True}
        optimizer = torch.optim.SGD(model.parameters(), lr=SGD_LR, fused=True, **momentum)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=ADAM_LR, fused=True)
    forward = torch.compile(model) if job.variant == "compile" else model

    def step(x, y):
        loss = nn.functional.cross_entropy(forward(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def predictor(job, state):
    model = load(job, state, DROPOUT).eval()
    if not torch.is_inference_mode_enabled():  # once for the whole process: in every call it would cost some µs
        INFERENCE.__enter__()
    return torch.compile(model) if job.variant == "compile" else model


def export(job, state, x) -> None:
    """The evaluation network as an ONNX file for batches like `x`, in `folder`."""
    path = job.folder / f"{job.network}-{job.batch}.onnx"
    model = load(job, state, DROPOUT).eval()
    torch.onnx.export(model, (x,), path, input_names=["x"], dynamo=True, external_data=False)
