"""Owns how a module is described by its constructor's arguments, as JSON values, and rebuilt from them.

As in scikit-learn, an argument is the attribute of its name. A description names a class by its key: layers of
this library by plain names, a user's by module and name ("nets.Block"), so that two modules may use one name.
"""

from __future__ import annotations

import inspect
import json
import math
from contextvars import ContextVar
from typing import Any

import numpy as np

from pynn.initializers import unsampled
from pynn.values import shown

__all__ = ["MAX_DEPTH", "REGISTRY", "arguments", "describe", "from_config", "kept", "key_of"]

MAX_DEPTH = 64  # of modules within modules
REGISTRY: dict[str, type] = {}  # every subclass of Module by its key
_depth: ContextVar[int] = ContextVar("depth", default=0)  # of the `describe` at work


def key_of(kind: type) -> str:
    """The name under which files know a class."""
    return kind.__name__ if kind.__module__.split(".")[0] == "pynn" else f"{kind.__module__}.{kind.__qualname__}"


def describe(module) -> dict:
    """{"type": key, **arguments}: JSON values, from which `from_config` rebuilds the module.

    Raises LayerError where it could not: a constructor's argument that is no attribute, or none that JSON has; a
    class that gives something else when it is rebuilt, which is tried.
    """
    depth = _depth.get()
    if depth > MAX_DEPTH:
        raise module._refuse(f"it is nested more than {MAX_DEPTH} deep, which no file can hold")
    token = _depth.set(depth + 1)
    try:
        config = {"type": key_of(type(module)), **arguments(module)}
        if depth == 0:
            _require_rebuilt(module, config)
    finally:
        _depth.reset(token)
    return config


# -- from a module to its description ---------------------------------------------------------------------------


def arguments(module) -> dict:
    """The constructor's arguments but `rng`, as JSON values: what `config` gives, else the attributes.

    A `config` that is inherited from further up than the constructor says nothing of this constructor's arguments.
    """
    kind = type(module)
    explicit = _owner(kind, "config") <= _owner(kind, "__init__")
    given, expected = module.config() if explicit else {}, _parameters(kind)
    more = [name for name in given if name not in expected]
    if more and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in expected.values()):
        raise module._refuse(f"config() gives {shown(more[0])}, which its constructor does not take")
    config = {name: _as_json(module, name, given[name], 0) for name in more}
    for name, parameter in expected.items():
        if name in given:
            config[name] = _as_json(module, name, given[name], 0)
        elif _is_kept(module, parameter):
            config[name] = _as_json(module, name, getattr(module, name), 0)
        elif parameter.kind is not parameter.VAR_KEYWORD or not explicit:
            stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
            raise module._refuse(
                f"a file cannot hold it: its constructor takes {stars}{name}, but no attribute says what that "
                f"was: set self.{name}, or define config()"
            )
    return config


def kept(module) -> dict:
    """Those of the constructor's arguments that are attributes, as JSON values."""
    return {
        name: _as_json(module, name, getattr(module, name), 0)
        for name, parameter in _parameters(type(module)).items()
        if _is_kept(module, parameter)
    }


def _is_kept(module, parameter: inspect.Parameter) -> bool:
    return parameter.kind is not parameter.VAR_KEYWORD and hasattr(module, parameter.name)


def _owner(kind: type, name: str) -> int:
    """How far up the class is that defines `name`."""
    return next(i for i, base in enumerate(kind.__mro__) if name in vars(base))


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """The constructor's parameters by name, without self and rng."""
    _, *parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    return {parameter.name: parameter for parameter in parameters if parameter.name != "rng"}


def _as_json(module, name: str, value, depth: int) -> Any:
    """An argument as JSON, or LayerError."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if hasattr(type(value), "to_config") and depth <= MAX_DEPTH:
        try:
            return describe(value)
        except ValueError as error:
            path = next((path for path, child in module.children() if child is value), name)
            raise error.inside(path) if hasattr(error, "inside") else error from None
    if isinstance(value, list | tuple) and depth <= MAX_DEPTH:
        return [_as_json(module, name, item, depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value) and depth <= MAX_DEPTH:
        return {key: _as_json(module, name, item, depth + 1) for key, item in value.items()}
    raise module._refuse(
        f"a file cannot hold its argument {name!r}, {shown(value)}: "
        "it holds finite numbers, text, layers and lists"
    )


def _require_rebuilt(module, config: dict) -> None:
    """Refuses a module that `from_config` would not rebuild as it is."""
    problem = "a file cannot hold it"
    for path, part in module.named_modules():
        if replaced := sorted(vars(part).keys() & {"forward", "backward", "output_shape"}):
            name = f"{path}.{replaced[0]}" if path else replaced[0]
            raise module._refuse(f"{problem}: its {name} was replaced in this one object: define a subclass")
    try:
        twin = from_config(json.loads(json.dumps(config)))
    except (ValueError, TypeError) as error:
        raise module._refuse(f"{problem}: {error!s:.200}") from error
    ours, theirs = (
        {path: (key_of(type(m)), _or_none(m)) for path, m in each.named_modules()} for each in (module, twin)
    )
    if path := _first_difference(ours, theirs):
        raise module._refuse(f"{problem}: rebuilt from its arguments, {path} is another, or has other arguments")
    ours, theirs = ({path: (a.shape, a.dtype) for path, a in each._state().items()} for each in (module, twin))
    if path := _first_difference(ours, theirs):
        raise module._refuse(
            f"{problem}: rebuilt from its arguments, its {path} has another shape or dtype, or is not there"
        )


def _or_none(module) -> dict | None:
    """The arguments of a part, None where they are not to be had: the whole makes the part."""
    try:
        return arguments(module)
    except ValueError:
        return None


def _first_difference(ours: dict, theirs: dict) -> str | None:
    """The first path that only one has, or at which they differ; the whole is "it"."""
    for path in [*ours, *theirs]:
        if path not in ours or path not in theirs or ours[path] != theirs[path]:
            return path or "it"
    return None


# -- from a description to a module -----------------------------------------------------------------------------


def from_config(config: dict):
    """The module that `Module.to_config` described, its parameters all zero: `load_state_dict` fills them.

    `config` may come from a hostile file: only registered Modules are made, from arguments that their
    constructors check, and memory is not touched before `load_state_dict` has compared the shapes.
    Raises ValueError, in a sentence, for anything else.
    """
    with unsampled():
        return _build(config, "model", 0)


def _build(config, where: str, depth: int):
    if depth > MAX_DEPTH:
        raise ValueError(f"model configuration: it is nested more than {MAX_DEPTH} deep")
    if not isinstance(config, dict) or not isinstance(config.get("type"), str):
        raise ValueError(
            f'model configuration: expected {where} to be an object with a "type", got {shown(config)}'
        )
    kind = _find(config["type"], where)
    expected = _parameters(kind)
    takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in expected.values())
    keywords: dict = {}
    positional: list = []
    for name, value in config.items():
        if name == "type":
            continue
        if (name not in expected and not takes_more) or name == "rng":
            raise ValueError(f"model configuration: {where} ({kind.__name__}) takes no argument {shown(name)}")
        if isinstance(value, dict):
            value = _build(value, f"{where}.{name}", depth + 1)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            value = [_build(item, f"{where}.{name}[{i}]", depth + 1) for i, item in enumerate(value)]
        if name in expected and expected[name].kind is inspect.Parameter.VAR_POSITIONAL:
            positional = value if isinstance(value, list) else [value]
        else:
            keywords[name] = value
    if positional:  # what comes before them has to be given by position too
        leading = [name for name, p in expected.items() if p.kind is p.POSITIONAL_OR_KEYWORD and name in keywords]
        positional = [*(keywords.pop(name) for name in leading), *positional]
    try:
        return kind(*positional, **keywords)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(f"model configuration: {where} cannot be made: {error!s:.300}") from error


def _find(name: str, where: str) -> type:
    """The class of that key.

    Older files have plain names, and a script's own classes are in "__main__": such a name stands for a class that
    is known under one other key.
    """
    if name in REGISTRY:
        return REGISTRY[name]
    qualified = name.removeprefix("__main__.")
    known = sorted(
        key
        for key, kind in REGISTRY.items()
        if key not in {kind.__name__}  # the library's own go by their keys alone
        and (
            ("." not in name and kind.__name__ == name)
            or (name.startswith("__main__.") and kind.__qualname__ == qualified)
            or (kind.__module__ == "__main__" and name.endswith(f".{kind.__qualname__}"))
        )
    )
    if len(known) == 1:
        return REGISTRY[known[0]]
    if known:
        raise ValueError(
            f"model configuration: {where} is a {shown(name)}, which may be {known[0]} or {known[1]}: "
            "import only the module that it was saved with"
        )
    raise ValueError(
        f"model configuration: {where} is a {shown(name)}, which is no known layer: "
        "import the module that defines it first"
    )
