"""A model as a table: layer, output shape, parameters."""

from pynn.module import Module

__all__ = ["summary"]


def summary(model: Module, input_shape: tuple[int, ...] | None = None) -> str:
    """One line a layer, nested ones indented, then the total, and how much of it is trained where not all is.

    input_shape : without the batch axis; None: no shapes are shown.
    """
    rows = [(type(model).__name__, "output shape", "parameters")]
    if input_shape is not None:
        model._check_sample(input_shape)
        rows.append(("input", _shown(input_shape), ""))
    _, *below = model.outline(input_shape)
    for depth, name, module, shape in below:
        label = type(module).__name__ if any(module.children()) else repr(module)
        own = sum(parameter.size for path, parameter in module.named_parameters() if "." not in path)
        rows.append((f"{'  ' * (depth - 1)}{name} {label}", _shown(shape), f"{own:,}" if own else ""))
    total = sum(parameter.size for parameter in model.parameters())
    trained = sum(parameter.size for parameter in model.parameters() if parameter.requires_grad)
    totals = [("total", "", f"{total:,}"), *([("trained", "", f"{trained:,}")] if trained < total else [])]
    rows += totals
    left, middle, right = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{a:<{left}}  {b:<{middle}}  {c:>{right}}".rstrip() for a, b, c in rows]
    rule = "─" * (left + middle + right + 4)
    return "\n".join([lines[0], rule, *lines[1 : -len(totals)], rule, *lines[-len(totals) :]])


def _shown(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else f"({', '.join(map(str, ('N', *shape)))})"
