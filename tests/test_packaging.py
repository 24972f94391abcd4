"""What is installed: one version, sane metadata, extras that are really extra."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import pynn

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"dev", "experiments", "images", "io", "progress", "report", "test"}


def run(code):
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_one_version():
    assert metadata.version("pynn-cnn") == pynn.__version__
    assert not re.search(r"^version = \"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE)[1] in {pynn.__version__, "Unreleased"}


def test_numpy_is_the_only_requirement_of_the_core():
    requirements = metadata.requires("pynn-cnn")
    assert [each for each in requirements if "extra ==" not in each] == ["numpy>=2.0"]
    assert set(metadata.metadata("pynn-cnn").get_all("Provides-Extra")) == EXTRAS


def test_the_command_is_installed():
    (command,) = metadata.entry_points(group="console_scripts", name="pynn")
    assert command.value == "pynn.cli:main"
    assert callable(command.load())


@pytest.mark.parametrize("module", ["cnn_ext", "pynn", "pynn.cli"])
def test_import_brings_in_numpy_and_the_standard_library_only(module):
    code = (
        "import sys; before = set(sys.modules)\n"  # whatever a site hook imported is not the project's doing
        f"import {module}\n"
        "print(*{name.split('.')[0] for name in sys.modules.keys() - before})"
    )
    imported = set(run(code).split())
    assert module.split(".")[0] in imported
    cython = {
        name for name in imported if re.fullmatch(r"_?cython_[\w]+", name)
    }  # its run-time, inside the kernels
    assert imported - sys.stdlib_module_names - cython <= {"cnn_ext", "numpy", "pynn"}


def test_typed_for_users_of_the_installed_package():
    for package in ("cnn_ext", "pynn"):
        folder = Path(run(f"import {package}; print({package}.__path__[0])").strip())
        assert (folder / "py.typed").is_file()
