"""Owns what every layer and model shares: parameters, state, shapes, errors and the forward/backward contract."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np

__all__ = ["LayerError", "LayerTypeError", "Module", "Parameter"]


class LayerError(ValueError):
    """A layer was given a value it cannot take; the message names the layer by its path in the model."""

    def __init__(self, layer: str, problem: str, path: tuple[str, ...] = ()):
        super().__init__(layer, problem, path)
        self.layer, self.problem, self.path = layer, problem, path

    def __str__(self) -> str:
        return f"[{' '.join(filter(None, ('.'.join(self.path), self.layer)))}] {self.problem}"

    def inside(self, name: str) -> LayerError:
        """The same error as seen from the container that holds the layer under `name`."""
        return type(self)(self.layer, self.problem, (name, *self.path))


class LayerTypeError(LayerError, TypeError):
    """A layer was given an array of the wrong dtype, or an argument of the wrong type."""


class Parameter:
    """A trainable array and its gradient.

    `data` and `grad` have equal shape and dtype. `backward` *adds* to `grad`; `zero_grad` clears it.
    """

    def __init__(self, data: np.ndarray):
        self.data = data
        self.grad = np.zeros_like(data)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def size(self) -> int:
        return self.data.size

    def zero_grad(self) -> None:
        self.grad[...] = 0

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.data.dtype})"


class Module:
    """The base of layers, containers and models.

    A subclass implements

    - `forward(x, *, training=False)`: the output; with `training=True` it keeps what `backward` needs,
    - `backward(dout, *, input_grad=True)`: adds ∂L/∂parameter to each `Parameter.grad` and returns ∂L/∂x
      (None where `input_grad` is False and leaving it out saves work),
    - `output_shape(input_shape)`: the output's shape without the batch axis, or LayerError,
    - `config()`: the constructor's arguments as JSON values, from which `pynn.load` rebuilds the layer.

    Attributes that are Parameters, Modules, or arrays named in `buffer_names` make up the state.
    """

    buffer_names: tuple[str, ...] = ()  # arrays that are state but not trained, as running_mean
    registry: dict[str, type[Module]] = {}  # noqa: RUF012 - one registry, shared on purpose

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Module.registry[cls.__name__] = cls

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def backward(self, dout: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        raise TypeError(f"{type(self).__name__} does not define backward")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def config(self) -> dict:
        return {}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The outputs in evaluation mode: running statistics, no dropout, nothing kept for `backward`."""
        return self.forward(x, training=False)

    # -- parameters and state -------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct child."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, parents first."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter), each Parameter once even where layers share it."""
        seen = set()
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """(path, array) of the state that is not trained."""
        for path, module in self.named_modules():
            for name in module.buffer_names:
                yield f"{path}.{name}" if path else name, getattr(module, name)

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by path."""
        arrays = {path: parameter.data for path, parameter in self.named_parameters()}
        return {path: array.copy() for path, array in (arrays | dict(self.named_buffers())).items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copies `state` into the parameters and buffers; all or nothing.

        Raises ValueError where names or shapes differ, TypeError where dtypes differ.
        """
        own = {path: parameter.data for path, parameter in self.named_parameters()} | dict(self.named_buffers())
        if missing := sorted(own.keys() - state.keys()):
            raise ValueError(f"load_state_dict: the state lacks {', '.join(missing)}, which the model has")
        if unknown := sorted(state.keys() - own.keys()):
            raise ValueError(f"load_state_dict: the state has {', '.join(unknown)}, which the model lacks")
        for path, array in own.items():
            if np.shape(state[path]) != array.shape:
                raise ValueError(
                    f"load_state_dict: expected {path} of shape {array.shape}, got {np.shape(state[path])}"
                )
            if np.asarray(state[path]).dtype != array.dtype:
                raise TypeError(
                    f"load_state_dict: expected {path} of dtype {array.dtype}, got {np.asarray(state[path]).dtype}"
                )
        for path, array in own.items():
            array[...] = state[path]

    def astype(self, dtype) -> Module:
        """A deep copy whose parameters, gradients and buffers have `dtype` (float32 or float64)."""
        twin = copy.deepcopy(self)
        for _, module in twin.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    value.data, value.grad = value.data.astype(dtype), value.grad.astype(dtype)
                elif name in module.buffer_names:
                    setattr(module, name, value.astype(dtype))
                elif name == "dtype":
                    module.dtype = np.dtype(dtype)
        return twin

    # -- help for subclasses --------------------------------------------------------------------------------

    def _refuse(self, problem: str, kind: type[LayerError] = LayerError):
        """The error to raise: `raise self._refuse("expected …, got …: remedy")`."""
        return kind(type(self).__name__, problem)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"
