"""Owns what every layer and model shares: parameters, state, shapes, errors and the forward/backward contract."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from pynn.configuration import MAX_DEPTH, REGISTRY, arguments, describe, from_config, kept, key_of
from pynn.habits import MODULE, PARAMETER, Explained, missing_attribute
from pynn.initializers import aligned_copy, aligned_zeros
from pynn.values import REAL, as_array, as_dtype, is_integer, is_number, listed, shown

__all__ = ["LayerError", "LayerTypeError", "Module", "Parameter", "first_nonfinite", "from_config"]

_RESULT = "a loss gives both, loss, dscores = loss_fn(scores, y)"


class LayerError(ValueError):
    """A layer was given a value it cannot take; the message names the layer by its path in the model."""

    def __init__(self, layer: str, problem: str, path: tuple[str, ...] = ()):
        super().__init__(layer, problem, path)
        self.layer, self.problem, self.path = layer, problem, path

    def __str__(self) -> str:
        path = ".".join(self.path)
        path = path if len(path) <= 80 else f"{path[:40]}…{path[-39:]}"
        return f"[{' '.join(filter(None, (path, self.layer)))}] {self.problem}"

    def inside(self, name: str) -> LayerError:
        """The same error as seen from the container that holds the layer under `name`."""
        return type(self)(self.layer, self.problem, (name, *self.path))


class LayerTypeError(LayerError, TypeError):
    """A layer was given an array of the wrong dtype, or an argument of the wrong type."""


class Parameter:
    """A trainable array and its gradient.

    data, grad : of equal shape and dtype, float32 or float64. They are the same two arrays as long as the
    Parameter lives: assigning copies the values into them, so that no reference to either goes stale.
    requires_grad : whether the array is trained. Where it is False, layers leave its gradient as it is, and
    optimizers and `clip_grad_norm` pass it over.

    `backward` *adds* to `grad`; `zero_grad` clears it. Raises TypeError for anything but a float32 or float64
    array; assigning raises ValueError where the shape differs, and TypeError where the dtype does.
    """

    def __init__(self, data: np.ndarray, requires_grad: bool = True):
        if not isinstance(data, np.ndarray) or data.dtype not in REAL:
            got = data.dtype if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
            raise TypeError(f"Parameter: expected a float32 or float64 NumPy array, got {got}: convert it first")
        self._data = data
        self._grad = aligned_zeros(data.shape, data.dtype)
        self.requires_grad = requires_grad

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state | {name: aligned_copy(state[name]) for name in ("_data", "_grad")})

    @property
    def data(self) -> np.ndarray:
        return self._data

    @data.setter
    def data(self, values: np.ndarray) -> None:
        _copy_into(self._data, values, "Parameter.data")

    @property
    def grad(self) -> np.ndarray:
        return self._grad

    @grad.setter
    def grad(self, values: np.ndarray) -> None:
        if values is None:
            raise TypeError("Parameter.grad is always an array: clear it with zero_grad()")
        _copy_into(self._grad, values, "Parameter.grad")

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(f"Parameter.requires_grad must be True or False, got {shown(value)}")
        self._requires_grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def size(self) -> int:
        return self._data.size

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, PARAMETER)

    def __setattr__(self, name: str, value) -> None:
        if name not in {"data", "grad", "requires_grad", "_data", "_grad", "_requires_grad"}:
            raise missing_attribute(self, name, PARAMETER)
        super().__setattr__(name, value)

    def __array__(self, dtype=None, copy: bool | None = None) -> np.ndarray:
        """`data`, wherever NumPy takes an array."""
        if dtype is None or dtype == self.dtype:
            return self._data.copy() if copy else self._data
        return self._data.astype(dtype)

    def accumulate(self, gradient: np.ndarray) -> None:
        """Adds `gradient` to `grad`, if this Parameter is trained."""
        if self._requires_grad:
            self._grad += gradient

    def zero_grad(self) -> None:
        self._grad[...] = 0

    def __repr__(self) -> str:
        frozen = "" if self._requires_grad else ", requires_grad=False"
        return f"Parameter(shape={self.shape}, dtype={self.dtype}{frozen})"


def _no_array(*_):
    raise TypeError("Parameter: arithmetic and indices are those of its array, write parameter.data")


for _operator in ("add", "sub", "mul", "truediv", "matmul", "pow"):
    setattr(Parameter, f"__{_operator}__", _no_array)
    setattr(Parameter, f"__r{_operator}__", _no_array)
for _operator in ("neg", "getitem", "setitem"):
    setattr(Parameter, f"__{_operator}__", _no_array)


def _copy_into(array: np.ndarray, values, name: str) -> None:
    """Copies `values` into `array`; refused unless they are an array of its shape and dtype."""
    if values is array:  # as after `parameter.grad += …`
        return
    if not isinstance(values, np.ndarray) or values.dtype != array.dtype:
        got = values.dtype if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise TypeError(
            f"{name}: expected an array of dtype {array.dtype}, got {got}: convert it, np.{array.dtype}(…)"
        )
    if values.shape != array.shape:
        raise ValueError(
            f"{name}: expected shape {array.shape}, got {values.shape}: another shape needs another layer"
        )
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only memory: build the model over a writable copy")
    array[...] = values


class Module(metaclass=Explained):
    """The base of layers, containers and models.

    A subclass implements

    - `forward(x, *, training=False)`: the output; with `training=True` it keeps what `backward` needs,
    - `backward(dout, *, input_grad=True)`: adds ∂L/∂parameter to each `Parameter.grad` and returns ∂L/∂x
      (None where `input_grad` is False),
    - `output_shape(input_shape)`: the output's shape without the batch axis, or LayerError,
    - `config()`, where the constructor's arguments are not all attributes of their names: these arguments as JSON
      values, which a model file holds and `from_config` rebuilds the layer from.

    Attributes that are Parameters, Modules, or arrays named in `buffer_names` make up the state, also where they
    are in lists, tuples or dicts; assigning to a buffer copies the values into it. `backward` adds gradients by
    `Parameter.accumulate`, which passes over what is not trained; a `forward` that differs in training asks for
    `training and self.trainable`. A layer with
    parameters has their `dtype`; a container overrides `children` and `outline`. Files name a subclass by module
    and name.
    """

    buffer_names: tuple[str, ...] = ()  # arrays that are state but not trained, as running_mean
    input_axes: tuple[str | int, ...] | None = None  # as ("N", 3, "H", "W"): numbers must match; None: any shape
    dtype: np.dtype | None = None  # None: float32 and float64 are both taken
    _cache: tuple | None = None  # what backward needs, from forward(training=True) until backward
    _defined: dict[str, object] = {}  # noqa: RUF012 - the class's own methods, as `class` defined them
    _trainable: bool

    def __new__(cls, *args, **kwargs):
        module = super().__new__(cls)
        module._trainable = True
        return module

    def __init__(self) -> None:
        pass

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._defined = {name: value for name, value in vars(cls).items() if callable(value)}
        if not (
            cls.__name__.startswith("_") and cls.__module__.startswith("pynn.")
        ):  # what layers share is no layer
            REGISTRY[key_of(cls)] = cls  # one that is defined again, as in a notebook, replaces itself

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} does not define forward")

    def backward(self, dout: np.ndarray, *, input_grad: bool = True) -> np.ndarray | None:
        raise TypeError(f"{type(self).__name__} does not define backward")

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_sample(input_shape)
        return tuple(input_shape)

    def config(self) -> dict:
        """The constructor's arguments as JSON values; here, those that are attributes of their names."""
        return kept(self)

    def to_config(self) -> dict:
        """{"type": class, **config()}: JSON values, from which `from_config` rebuilds the module.

        Raises LayerError where it could not be rebuilt: an argument is no attribute, or is none that JSON has.
        """
        return describe(self)

    def lower(self, graph, x):
        """Says to a `pynn.engine` graph what `forward` computes of its node `x`; returns the node of the output.

        A subclass whose forward is made of the graph's operations overrides it; here: `forward` and `backward` as
        they are.
        """
        return graph.layer(x, self)

    def __call__(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """`forward`, by default in evaluation: running statistics, no dropout, nothing kept for `backward`."""
        return self.forward(x, training=training)

    def release(self) -> None:
        """Drops what `forward(training=True)` kept for `backward`, here and in all modules below."""
        for _, module in self.named_modules():
            module._cache = None

    def __getstate__(self) -> dict:
        """What copies and pickles are made of: all but what `forward` kept; LayerError as in `named_modules`."""
        for _ in self.named_modules():
            pass
        return vars(self) | {"_cache": None}

    @classmethod
    def _misfit(cls, problem: str) -> LayerError:
        return LayerTypeError(cls.__name__, problem)

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, MODULE)

    def __setattr__(self, name: str, value) -> None:
        if name in {"requires_grad", "training"}:  # which nobody would read
            raise missing_attribute(self, name, MODULE)
        own = vars(self).get(name)
        if isinstance(own, Parameter) and not isinstance(value, Parameter | None):
            raise self._refuse(
                f"{name!r} is a Parameter, got {shown(value)}: assign the values to its data, {name}.data = …",
                LayerTypeError,
            )
        if isinstance(own, np.ndarray) and name in self.buffer_names:
            _copy_into(own, value, f"[{type(self).__name__}] {name}")  # whoever holds the array sees it too
        else:
            super().__setattr__(name, value)

    @property
    def trainable(self) -> bool:
        """Whether this module is trained; setting it sets it here and for all modules below.

        Where it is False, no parameter is trained (`requires_grad` is False), batch norm uses its running
        statistics and keeps them, and dropout is off: `forward(training=True)` computes what evaluation does, and
        `backward` still gives ∂L/∂x. So a body stays as it is while a head trains. Files do not keep it.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise self._refuse(f"'trainable' must be True or False, got {shown(value)}", LayerTypeError)
        for _, module in self.named_modules():
            module._trainable = value
        for parameter in self.parameters():
            parameter.requires_grad = value

    # -- parameters and state -------------------------------------------------------------------------------

    def children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct child; those in a list, tuple or dict are named as "blocks.0"."""
        return _held(vars(self), Module)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module and all below it, parents first.

        Raises LayerError where they are nested more than 64 deep, as they are where a module holds itself.
        """
        ahead = [(prefix, self, 0)]
        while ahead:
            path, module, depth = ahead.pop()
            if depth > MAX_DEPTH:
                raise self._refuse(f"modules are nested more than {MAX_DEPTH} deep: put them side by side")
            yield path, module
            below = [(f"{path}.{name}" if path else name, child, depth + 1) for name, child in module.children()]
            ahead += reversed(below)

    def _named_uses(self) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter) of every place where a Parameter is used."""
        for path, module in self.named_modules():
            for name, value in _held(vars(module), Parameter):
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter), each Parameter once even where layers share it."""
        seen = set()
        for path, parameter in self._named_uses():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield path, parameter

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """(path, array) of the state that is not trained."""
        for path, module in self.named_modules():
            for name in module.buffer_names:
                yield f"{path}.{name}" if path else name, getattr(module, name)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Clears all gradients. They stay arrays: `set_to_none`, which others have, changes nothing."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def _state(self) -> dict[str, np.ndarray]:
        # A shared Parameter stands under each of its paths: a model rebuilt from its file shares none.
        return {path: parameter.data for path, parameter in self._named_uses()} | dict(self.named_buffers())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by path."""
        return {path: array.copy() for path, array in self._state().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copies `state` into the parameters and buffers; all or nothing.

        Raises ValueError where names or shapes differ, TypeError where dtypes differ.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: expected a dict of arrays by name, got {shown(state)}")
        own = self._state()
        if missing := sorted(own.keys() - state.keys()):
            raise ValueError(f"load_state_dict: the state lacks {listed(missing)}, which the model has")
        if unknown := sorted(map(str, state.keys() - own.keys())):
            raise ValueError(f"load_state_dict: the state has {listed(unknown)}, which the model lacks")
        given = {path: as_array("load_state_dict:", path, state[path]) for path in own}
        for path, array in own.items():
            if given[path].shape != array.shape:
                raise ValueError(
                    f"load_state_dict: expected {path} of shape {array.shape}, got {given[path].shape}"
                )
            if given[path].dtype != array.dtype:
                raise TypeError(
                    f"load_state_dict: expected {path} of dtype {array.dtype}, got {given[path].dtype}"
                )
        for path, array in own.items():
            array[...] = given[path]

    def astype(self, dtype) -> Module:
        """A deep copy whose parameters, gradients and buffers have `dtype` (float32 or float64)."""
        real = as_dtype(dtype)
        if real is None:
            raise self._refuse(f"'dtype' must be float32 or float64, got {shown(dtype)}", LayerTypeError)
        twin = copy.deepcopy(self)
        for parameter in twin.parameters():
            parameter._data = aligned_copy(parameter.data.astype(real))
            parameter._grad = aligned_copy(parameter.grad.astype(real))
        for _, module in twin.named_modules():
            for name, value in vars(module).items():
                if name in module.buffer_names:
                    vars(module)[name] = value.astype(real)
                elif name == "dtype":
                    module.dtype = real
        return twin

    def outline(self, input_shape=None, name: str = "", depth: int = 0) -> Iterator[tuple]:
        """(depth, name, module, output shape or None) of this module and those below it: the rows of a summary."""
        yield depth, name, self, None if input_shape is None else self.output_shape(input_shape)

    # -- help for subclasses --------------------------------------------------------------------------------

    def _refuse(self, problem: str, kind: type[LayerError] = LayerError) -> LayerError:
        """The error to raise: `raise self._refuse("expected …, got …: remedy")`."""
        return kind(type(self).__name__, problem)

    def _remedy(self, shape: tuple) -> str:
        """What to do about an x of `shape`, which does not fit `input_axes`; ends the error's sentence."""
        return "reshape x, or change the layer"

    def _check_sample(self, shape) -> None:
        """Refuses `shape`, a sample's, without the batch axis, unless it is one and fits `input_axes`."""
        if not isinstance(shape, tuple | list) or not all(is_integer(axis) and axis > 0 for axis in shape):
            raise self._refuse(f"expected a sample's shape, a tuple of ints from 1 up, got {shown(shape)}")
        self._check_axes(("N", *shape))

    def _check_axes(self, shape: tuple) -> None:
        """Refuses `shape`, with its batch axis, unless it fits `input_axes`."""
        axes = self.input_axes
        if axes is None or _fits(shape, axes):
            return
        expected, got = (f"({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})" for sizes in (axes, shape))
        single = _fits(shape, axes[1:]) and any(isinstance(axis, int) for axis in axes[1:])
        remedy = "one sample needs a batch axis, x[None]" if single else self._remedy(shape)
        raise self._refuse(f"expected x of shape {expected}, got {got}: {remedy}")

    def _check_array(self, name: str, array, dtypes: tuple[np.dtype, ...]) -> np.ndarray:
        """`array` as a plain ndarray, refused unless it is an array of one of `dtypes`."""
        if isinstance(array, np.ndarray) and array.dtype in dtypes:
            return np.asarray(array)
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        if isinstance(array, np.ndarray):
            problem = f"expected {name} of {wanted}, got {array.dtype}: convert it with .astype(np.{dtypes[0]})"
        elif name == "dout" and (isinstance(array, tuple) or is_number(array)):
            got = "a tuple" if isinstance(array, tuple) else shown(array)
            problem = f"expected dout, the gradient of the loss, got {got}: {_RESULT}"
        else:
            way = f"np.asarray({name}, np.{dtypes[0]})"
            problem = f"expected {name} to be a NumPy array of {wanted}, got {type(array).__name__}: write {way}"
        raise self._refuse(problem, LayerTypeError)

    def _check_input(self, x) -> np.ndarray:
        """`x`, refused before any work unless it is a batch of the layer's dtype and shape."""
        x = self._check_array("x", x, REAL if self.dtype is None else (self.dtype,))
        if x.size == 0 or x.ndim == 0:
            raise self._refuse(f"expected x with at least one sample and no empty axis, got shape {x.shape}")
        self._check_axes(x.shape)
        self.output_shape(x.shape[1:])
        return x

    def _keep(self, out: np.ndarray, *values) -> None:
        """Keeps `values` for `backward`, which takes a gradient of the shape and dtype of `out`."""
        self._cache = (out.shape, out.dtype, values)

    def _take(self, dout) -> tuple[np.ndarray, tuple]:
        """(dout, what `forward` kept), which is released; a `dout` that does not fit releases nothing."""
        if self._cache is None:
            raise self._refuse(
                "backward has nothing to go by: call forward(x, training=True) before each backward"
            )
        shape, dtype, values = self._cache
        dout = self._check_array("dout", dout, (dtype,))
        if dout.shape != shape:
            raise self._refuse(f"expected dout of the output's shape {shape}, got {dout.shape}")
        self._cache = None
        return dout, values

    @contextmanager
    def _naming(self, name: str):
        """Errors from within get the child's `name` on their path, those of a layer's own making its type too."""
        try:
            yield
        except LayerError as error:
            raise error.inside(name) from error.__cause__
        except (ValueError, TypeError) as error:
            kind = LayerTypeError if isinstance(error, TypeError) else LayerError
            raise kind(type(dict(self.children())[name]).__name__, str(error), (name,)) from error

    def __repr__(self) -> str:
        """The constructor's call, defaults left out."""
        try:
            given = arguments(self)
        except LayerError:  # not all arguments are attributes
            return f"{type(self).__name__}(…)"
        shown_ones = []
        for name, value in given.items():
            value = tuple(value) if isinstance(value, list) else value
            default = inspect.signature(type(self).__init__).parameters[name].default
            if default is inspect.Parameter.empty:
                shown_ones.append(shown(value))
            elif value != (default.__name__ if isinstance(default, type) else default):  # dtype=np.float32
                shown_ones.append(f"{name}={shown(value)}")
        return f"{type(self).__name__}({', '.join(shown_ones)})"


def _fits(shape: tuple, axes: tuple) -> bool:
    """Whether the sizes are those of the axes that are numbers."""
    return len(shape) == len(axes) and all(
        axis == size or isinstance(axis, str) for axis, size in zip(axes, shape, strict=True)
    )


def _held(attributes: dict, kind: type) -> Iterator[tuple[str, Any]]:
    """(name, value) of what is of `kind` among attributes, and in those that are lists, tuples or dicts."""
    for name, value in attributes.items():
        if isinstance(value, kind):
            yield name, value
        elif isinstance(value, list | tuple | dict):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}.{key}", item) for key, item in items if isinstance(item, kind))


def first_nonfinite(model: Module, x: np.ndarray) -> str | None:
    """The path and type of the first layer whose output for `x` in training mode is not finite, as "3 Conv2d".

    "x" if `x` itself is not finite, None if all is. The model is not changed: a copy does the work.
    """
    if not np.isfinite(x).all():
        return "x"
    twin, found = copy.deepcopy(model), []

    def watch(label: str, forward):
        def watched(x, *, training=False):
            out = forward(x, training=training)
            if not np.isfinite(out).all():
                found.append(label)
            return out

        return watched

    for path, module in list(twin.named_modules()):
        vars(module)["forward"] = watch(f"{path} {type(module).__name__}".strip(), module.forward)
    with np.errstate(all="ignore"):  # overflow is what is looked for
        twin.forward(x, training=True)
    return found[0] if found else None
