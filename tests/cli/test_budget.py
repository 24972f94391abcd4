"""The memory that a training takes is told before it, and what cannot fit is refused before any work."""

import re
import subprocess
import sys

import numpy as np
import pytest
from command_line import refusal

from pynn.cli import budget, main
from pynn.cli.networks import network, weights_of

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")
resource = pytest.importorskip("resource", reason="needs Unix")
GB = 10**9


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes files below a folder that stands for the root, and says what memory they make available."""

    def made(**files: str) -> int | None:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return min((max(0, limit) for limit in budget._limits(str(tmp_path))), default=None)

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return made


def test_a_system_that_does_not_tell_refuses_nothing(machine, monkeypatch):
    assert machine() is None
    monkeypatch.setattr(budget, "available_memory", lambda: None)
    budget.require_memory(10**18, "")


def test_the_machine_its_container_and_its_groups_limit(machine):
    assert machine(proc__meminfo="MemTotal: 9000000 kB\nMemAvailable:    2000000 kB\n") == 2_048_000_000
    group = {"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__memory.current": "700000000\n"}
    assert machine(**group, **{"sys__fs__cgroup__a__memory.max": "max\n"}) == 2_048_000_000
    assert machine(**{"sys__fs__cgroup__a__memory.max": f"{GB}\n"}) == 300_000_000
    assert machine(**{"sys__fs__cgroup__a__memory.stat": "anon 5\ninactive_file 100000000\n"}) == 400_000_000
    files = {"memory.limit_in_bytes": "90", "memory.usage_in_bytes": "100"}
    first = {f"sys__fs__cgroup__memory__c__{name}": text for name, text in files.items()}
    assert machine(**first, proc__self__cgroup="4:cpu,memory:/c\n") == 0


def test_the_limit_of_the_process_itself(machine, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2 * GB, 2 * GB))
    pages = GB // resource.getpagesize()
    assert 1.9 * GB > machine(proc__self__statm=f"{pages} 5 5\n") > 0.9 * GB


@pytest.mark.parametrize(
    ("needed", "words"),
    [(0, "0 MB"), (4.9e9, "4.9 GB"), (999e6, "999 MB"), (36e6, "36 MB"), (10**12, "1000.0 GB")],
)
def test_bytes_in_words(needed, words):
    assert budget.in_words(int(needed)) == words


@pytest.mark.parametrize("shape", [(5,), (1, 5, 5), (3, 8, 8), (3, 9, 70), (2, 28, 28), (1, 64, 65)])
@pytest.mark.parametrize("kind", [None, "mlp"])
def test_most_weights_are_known_before_there_are_any(kind, shape):
    model = network(kind, shape, 1000, 2, np.random.default_rng(0))
    weights = sum(parameter.data.size for parameter in model.parameters())
    assert weights_of(kind, shape, 1000) <= weights < 1.2 * weights_of(kind, shape, 1000) + 70_000


def test_what_cannot_fit_is_refused_with_the_remedy(pictures, features, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(budget, "available_memory", lambda: 10**6)
    assert main(["train", str(pictures), "--out", str(tmp_path / "m"), "--image-size", "64"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"training would take about \d+ MB of memory, but 1 MB are available: ", said)
    assert said.endswith("give a smaller --image-size (now 64×64), --batch-size (now 100) or --hidden (now 128)")
    huge = refusal(capsys, "train", features[0], "--out", tmp_path / "m", "--hidden", 10**17)
    assert huge.endswith(
        "give less data, or a smaller --batch-size (now 100) or --hidden (now 100000000000000000)"
    )
    assert not (tmp_path / "m").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2000, 1, 28, 28), []),
        ((24, 3, 150, 150), []),
        ((40, 40_000), ["--hidden", "200"]),
        ((30_000, 200), []),
    ],
    ids=["digits", "large images", "a large model", "many features"],
)
def test_the_peak_is_about_as_was_told(shape, options, tmp_path):
    rng = np.random.default_rng(0)
    # Features that need float64, as is reckoned with: whether they do is not known before they are read.
    x = rng.integers(0, 256, shape, np.uint8) if len(shape) == 4 else rng.normal(1e9, 1, shape)
    np.savez(tmp_path / "d.npz", X=x, y=np.arange(len(x)) % 2)
    code = (
        "import re, sys\nfrom pathlib import Path\nfrom pynn.cli import main\n"
        "code = main(sys.argv[1:])\n"
        # not what resource.getrusage tells, in which the memory of the process that started this one counts
        "print(code, 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]))"
    )
    arguments = ["train", str(tmp_path / "d.npz"), "--out", str(tmp_path / "m"), "--epochs", "1", *options]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    code, peak = map(int, ended.stdout.splitlines()[-1].split())
    number, unit = re.search(r"training will take about ([\d.]+) (MB|GB) of memory", ended.stderr).groups()
    assert code == 0
    assert 0.7 < float(number) * {"MB": 1e6, "GB": 1e9}[unit] / peak < 1.4
