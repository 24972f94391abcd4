"""The shape of the code, read from its syntax trees: who may import whom, and what a library does not do.

A rule is a function of a module's name and tree that yields what it finds wrong. Each is run over every module,
and over snippets that break it.
"""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import cnn_ext
from cnn_ext.isa import kernels
from pynn import layers
from pynn.module import Module

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"PIL", "matplotlib", "safetensors", "tqdm"}  # imported inside the function that needs them

# Each part imports from itself and from the tiers above its own.
TIERS = [
    {"cnn_ext"},
    {"pynn.text", "pynn.values"},
    {
        "pynn._version",
        "pynn.container",
        "pynn.files",
        "pynn.generators",
        "pynn.habits",
        "pynn.progress",
    },
    {"pynn.initializers"},
    {"pynn.batches", "pynn.callbacks", "pynn.configuration", "pynn.losses", "pynn.run", "pynn.schedules"},
    {"pynn.environment", "pynn.metrics", "pynn.module"},
    {"pynn.conditions", "pynn.data", "pynn.engine", "pynn.gradcheck", "pynn.io", "pynn.layers", "pynn.optim"},
    {"pynn.arguments", "pynn.models", "pynn.settings"},
    {"pynn.checkpoint"},
    {"pynn.solver"},
    {"pynn.names"},
    {"pynn"},  # the public names
    {"pynn.experiments", "pynn.report"},
    {"pynn.cli"},
    {"pynn.__main__"},
]
TIER = {part: tier for tier, parts in enumerate(TIERS) for part in parts}
KERNEL_USERS = {
    "cnn_ext",
    "pynn.cli",
    "pynn.engine",
    "pynn.environment",
    "pynn.layers",
    "pynn.losses",
    "pynn.names",
    "pynn.optim",
}
TRAINING_LOOP = {
    "pynn.arguments",
    "pynn.batches",
    "pynn.callbacks",
    "pynn.checkpoint",
    "pynn.conditions",
    "pynn.run",
    "pynn.settings",
    "pynn.solver",
}
TRAINING_LOOP_NEVER_SEES = {"pynn.data", "pynn.layers", "pynn.models"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for top in ("cnn_ext", "pynn") for path in sorted((ROOT / top).rglob("*.py"))}
COMPILED = {f"cnn_ext.{path.stem}" for path in (ROOT / "cnn_ext").glob("*.pyx")}
OWN = SOURCES.keys() | COMPILED


def part_of(module):
    """The part of the house that a module belongs to: `pynn.layers` for `pynn.layers.conv`."""
    return "cnn_ext" if module.startswith("cnn_ext") else ".".join(module.split(".")[:2])


def imports(tree):
    """(imported module, names imported from it, inside a function?) of each import that runs."""
    for_types_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in for_types_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names], id(node) in inside


def own_modules(tree):
    """The project's modules that a tree imports; `from pynn import models` imports `pynn.models`."""
    for module, names, _ in imports(tree):
        if module.split(".")[0] in {"cnn_ext", "pynn"}:
            submodules = [f"{module}.{name}" for name in names if f"{module}.{name}" in OWN]
            yield from submodules
            if len(submodules) < len(names) or not names:
                yield module


# -- the rules ------------------------------------------------------------------------------------------------


def imports_point_one_way(name, tree):
    for module in own_modules(tree):
        if part_of(module) not in TIER:
            yield f"{module} has no tier"
        elif part_of(module) != part_of(name) and TIER[part_of(module)] >= TIER[part_of(name)]:
            yield module


def only_numpy_at_the_top(name, tree):
    allowed = {"cnn_ext", "numpy", "pynn"} | sys.stdlib_module_names
    for module, _, inside in imports(tree):
        top = module.split(".")[0]
        if top not in (allowed | EXTRAS if inside and not name.startswith("cnn_ext") else allowed):
            yield module


def kernels_only_by_public_name(name, tree):
    if part_of(name) == "cnn_ext":
        return
    for module, names, _ in imports(tree):
        if module.split(".")[0] == "cnn_ext":
            if part_of(name) not in KERNEL_USERS or module != "cnn_ext":
                yield module
            yield from sorted(set(names) - set(cnn_ext.__all__))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="cnn_ext"), attr=attribute) if attribute not in cnn_ext.__all__:
                yield f"cnn_ext.{attribute}"


def training_loop_sees_modules_losses_and_arrays(name, tree):
    if part_of(name) in TRAINING_LOOP:
        yield from (module for module in own_modules(tree) if part_of(module) in TRAINING_LOOP_NEVER_SEES)


def no_print_in_the_library(name, tree):
    if part_of(name) not in {"pynn.cli", "pynn.experiments", "pynn.progress"}:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"print in line {node.lineno}"


def no_assert_in_the_library(name, tree):
    yield from (f"assert in line {node.lineno}" for node in ast.walk(tree) if isinstance(node, ast.Assert))


def no_pickle(name, tree):
    yield from (module for module, _, _ in imports(tree) if module.split(".")[0] == "pickle")


def module_says_what_it_owns(name, tree):
    if not ast.get_docstring(tree):
        yield "no module docstring"


def public_things_are_documented(name, tree):
    if name.startswith("cnn_ext.reference"):  # documented at the op of the same name and signature
        return
    public = {each for node in tree.body if is_all(node) for each in ast.literal_eval(node.value)}
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and node.name in public
            and not ast.get_docstring(node)
        ):
            yield node.name


def module_lists_its_public_names(name, tree):
    hidden = name.split(".")[-1].startswith("_") or name in {"cnn_ext.ops", "pynn"}  # its own are in pynn.names
    if not hidden and not any(is_all(node) for node in tree.body):
        yield "no __all__"


def is_all(node):
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


RULES = [
    imports_point_one_way,
    only_numpy_at_the_top,
    kernels_only_by_public_name,
    training_loop_sees_modules_losses_and_arrays,
    no_print_in_the_library,
    no_assert_in_the_library,
    no_pickle,
    module_says_what_it_owns,
    module_lists_its_public_names,
    public_things_are_documented,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule):
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
    broken = {name: list(rule(name, tree)) for name, tree in trees.items()}
    assert {name: wrongs for name, wrongs in broken.items() if wrongs} == {}


@pytest.mark.parametrize(
    ("rule", "name", "snippet"),
    [
        (imports_point_one_way, "cnn_ext.ops.conv", "import pynn.module"),
        (imports_point_one_way, "pynn.layers.conv", "from pynn.solver import Solver"),
        (imports_point_one_way, "pynn.layers.conv", "from pynn import models"),
        (imports_point_one_way, "pynn.layers.conv", "from pynn import Sequential"),
        (imports_point_one_way, "pynn.module", "def f():\n    from pynn.layers import Linear"),
        (imports_point_one_way, "pynn.report.page", "from pynn.experiments import rows"),
        (imports_point_one_way, "pynn", "from pynn.experiments import q2"),
        (imports_point_one_way, "pynn.experiments.q2", "from pynn.cli import main"),
        (imports_point_one_way, "pynn.cli", "from pynn.nowhere import x"),
        (only_numpy_at_the_top, "pynn.report.plots", "import matplotlib.pyplot"),
        (
            only_numpy_at_the_top,
            "pynn.progress",
            "try:\n    from tqdm import tqdm\nexcept ImportError:\n    tqdm = 0",
        ),
        (only_numpy_at_the_top, "pynn.layers.conv", "def f():\n    import scipy"),
        (only_numpy_at_the_top, "pynn.layers.conv", "from .linear import Linear"),
        (only_numpy_at_the_top, "cnn_ext.ops.conv", "def f():\n    import tqdm"),
        (kernels_only_by_public_name, "pynn.layers.conv", "from cnn_ext.isa import kernels"),
        (kernels_only_by_public_name, "pynn.layers.conv", "import cnn_ext._avx2"),
        (kernels_only_by_public_name, "pynn.layers.conv", "from cnn_ext import threads"),
        (kernels_only_by_public_name, "pynn.layers.conv", "import cnn_ext\ncnn_ext._checks.pair()"),
        (kernels_only_by_public_name, "pynn.solver", "import cnn_ext"),
        (training_loop_sees_modules_losses_and_arrays, "pynn.solver", "from pynn.layers import BatchNorm2d"),
        (training_loop_sees_modules_losses_and_arrays, "pynn.checkpoint", "from pynn.data import load_mnist"),
        (no_print_in_the_library, "pynn.solver", "def f():\n    print(1)"),
        (no_assert_in_the_library, "cnn_ext.ops.conv", "def f(x):\n    assert x.ndim == 4"),
        (no_pickle, "pynn.io", "def f():\n    from pickle import load"),
        (module_says_what_it_owns, "pynn.solver", "x = 1"),
        (public_things_are_documented, "pynn.solver", "__all__ = ['Solver']\nclass Solver:\n    pass"),
        (module_lists_its_public_names, "pynn.solver", "class Solver:\n    pass"),
        (public_things_are_documented, "pynn.solver", "__all__ = ['fit']\ndef fit():\n    return 1"),
        (public_things_are_documented, "cnn_ext.ops.x", "__all__ = ['f']\ndef f(x):\n    return x"),
    ],
)
def test_rule_sees_what_breaks_it(rule, name, snippet):
    assert list(rule(name, ast.parse(snippet)))


def test_every_module_has_a_tier():
    assert {part_of(name) for name in SOURCES} == TIER.keys()


def test_every_layer_is_exported():
    defined = {
        name
        for module in SOURCES
        if part_of(module) == "pynn.layers"
        for name, value in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(value, Module) and value.__module__ == module and not name.startswith("_")
    }
    assert defined
    assert defined <= set(layers.__all__)


def test_public_names_exist():
    for name in SOURCES.keys() - {"pynn.__main__"}:  # importing that one runs the command line
        module = importlib.import_module(name)
        public = getattr(module, "__all__", [])
        assert [each for each in public if not hasattr(module, each)] == [], name
        assert len(public) == len(set(public)), name


def test_stub_is_of_the_compiled_kernels():
    defined = {
        name: re.findall(r"(\w+)(?: not None)?\s*(?:,|$)", re.sub(r"\[.*?\]", "", arguments))
        for path in (ROOT / "cnn_ext" / "kernels").glob("*.pxi")
        for name, arguments in re.findall(
            r"^def (\w+)\((.*?)\):", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    }
    stub = ast.parse((ROOT / "cnn_ext" / "_baseline.pyi").read_text(encoding="utf-8"))
    functions = [node for node in stub.body if isinstance(node, ast.FunctionDef)]
    assert len(defined) > 15
    assert {node.name: [argument.arg for argument in node.args.args] for node in functions} == defined
    assert defined.keys() <= set(dir(kernels))
