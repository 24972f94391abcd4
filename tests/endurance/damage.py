"""Reads damaged files by the thousand: no crash, no hang, no wrong error, no memory out of proportion.

    python tests/endurance/damage.py --cases 250 --jobs 2

A case is 1,000 files of a kind: `model` files, `checkpoint`s, `npz` data, `idx` and `gz` (IDX, plain and
compressed), `cifar` batches (pickles), the CIFAR-10 archive (`tar`), `image`s in a folder, `results`
(results.json and the report drawn of it). Valid files are damaged by `mutations`, blindly or so that they are
well-formed and wrong, and read in this process. Each reading must give a value, or one sentence below 300
characters as the reader's own error, within 5 seconds, and must not take more memory than 4 times what is
justified: what is in the file (unpacked, as far as its size admits) and what came out, and two MiB. Files that
fail are kept in the folder that the message names.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import io
import json
import os
import pickle
import resource
import signal
import sys
import tarfile
import tempfile
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mutations
import numpy as np
from harness import Outcome, arguments, run

import pynn
from pynn.data import DataError, load_cifar10, load_image_folder, load_npz
from pynn.data.idx import read_idx
from pynn.io import ModelFileError, read_tensors, write_tensors
from pynn.report.page import render
from pynn.report.results import ResultsError, read_rows, write_rows

FILES = 1000  # of a case
SECONDS = 5
MORE = 512 << 20  # bytes of address space, touched or not, that no such small file justifies: beyond it is refused
CONSTANT = 2 << 20  # bytes that reading anything may take
DEFLATE = 1032  # how many times its size a compressed file may unpack to
KEPT = Path(tempfile.gettempdir()) / "pynn-damage"


class TooLong(BaseException):
    """Not an Exception, so that no reader takes it for the file's fault."""


@dataclass
class Reader:
    """Of one kind of file: valid ones, how to damage them beside blindly, how to read them."""

    name: str  # of the file in its folder
    valid: list[bytes]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]
    wrong: Callable[[bytes, mutations.Rng, list[bytes]], bytes] | None = None
    ratio: int = 1  # of what is in the file to its size
    claims: Callable[[bytes], int] = lambda _: 0  # bytes that a format may take whatever the file's size


# -- the kinds ----------------------------------------------------------------------------------------------


def model_reader(folder: Path) -> Reader:
    rng = np.random.default_rng(0)
    models = [
        pynn.models.cnn_bn((1, 8, 8), kernel_size=3, filters=2, hidden=4, n_classes=3, rng=rng),
        pynn.Sequential(pynn.Residual(pynn.Sequential(pynn.Linear(3, 3, rng=rng), pynn.GELU())), input_shape=(3,)),
    ]
    path = folder / "a.model"
    valid = []
    for model in models:
        pynn.save(
            model, path, metadata={"classes": ["a", "b"], "mean": [0.5], "nested": {"deep": [1, {"x": None}]}}
        )
        valid.append(path.read_bytes())

    def read(path: Path) -> object:
        pynn.load_metadata(path)
        return pynn.load(path)

    return Reader(path.name, valid, read, (ModelFileError, OSError), _tensors(path, "model"))


def checkpoint_reader(folder: Path) -> Reader:
    path, valid = folder / "a.checkpoint", []
    x = np.random.default_rng(1).standard_normal((12, 5)).astype(np.float32)
    for best in (True, False):
        solver = _solver()
        more = {"validation_data": (x, np.arange(12) % 3), "patience": 2} if best else {}
        solver.fit(x, np.arange(12) % 3, epochs=2, checkpoint=path, **more)
        valid.append(path.read_bytes())

    def read(path: Path) -> object:
        solver = _solver()
        before = pickle.dumps((solver.model.state_dict(), solver.history))
        try:
            solver.resume(path)
        except ModelFileError:
            if pickle.dumps((solver.model.state_dict(), solver.history)) != before:
                raise AssertionError("a refused checkpoint changed the solver") from None
            raise
        with contextlib.suppress(ModelFileError, ValueError):  # of a run under other conditions
            solver.fit(x, np.arange(12) % 3, epochs=2)
        return solver.model.state_dict()

    return Reader(path.name, valid, read, (ModelFileError, OSError), _tensors(path, "checkpoint"))


def _solver() -> pynn.Solver:
    rng = np.random.default_rng(2)
    model = pynn.Sequential(pynn.Linear(5, 4, rng=rng), pynn.Dropout(0.5, rng=rng), pynn.Linear(4, 3, rng=rng))
    optimizer = pynn.Adam(model.parameters())
    return pynn.Solver(model, pynn.CrossEntropyLoss(), optimizer, batch_size=6, rng=rng, progress=False)


def _tensors(path: Path, kind: str):
    """Damage behind the checksum: a header or arrays that are wrong, written as the library writes them."""
    scratch = path.with_name("written")

    def wrong(data: bytes, rng: mutations.Rng, others: list[bytes]) -> bytes:
        scratch.write_bytes(data)
        tensors, header = read_tensors(scratch, kind)
        header = {key: value for key, value in header.items() if key != "sha256"}
        for _ in range(int(rng.integers(1, 4))):
            if rng.random() < 0.7:
                header = mutations.tree(header, rng)
            elif tensors:
                name = mutations.pick(rng, list(tensors))
                if rng.random() < 0.3:
                    tensors[mutations.pick(rng, ("x", "model/", "best/x", "optimizer/9.m", name + "0"))] = (
                        tensors.pop(name)
                    )
                else:
                    tensors[name] = np.ascontiguousarray(mutations.array(tensors[name], rng))
            if not isinstance(header, dict):
                break
        try:
            write_tensors(scratch, kind, tensors, header)
        except (TypeError, ValueError, AttributeError, RecursionError):  # the library would not write it
            return mutations.blind(data, rng, others)
        return scratch.read_bytes()

    return wrong


def npz_reader(folder: Path) -> Reader:
    rng, valid = np.random.default_rng(3), []
    x = rng.random((9, 3)).astype(np.float32)
    for save, y in ((np.savez, np.array(list("abcabcabc"))), (np.savez_compressed, np.arange(9) % 3)):
        out = io.BytesIO()
        save(out, X=x, y=y)
        valid.append(out.getvalue())
    out = io.BytesIO()
    np.savez_compressed(out, x_train=x, y_train=np.arange(9) % 3, x_test=x[:3], y_test=np.arange(3))
    valid.append(out.getvalue())
    return Reader("a.npz", valid, load_npz, (DataError,), mutations.zipped, DEFLATE)


def idx_bytes(values: np.ndarray) -> bytes:
    sizes = b"".join(int(n).to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def idx_reader(folder: Path) -> Reader:
    valid = [idx_bytes(np.arange(24).reshape(2, 3, 4)), idx_bytes(np.arange(60).reshape(5, 4, 3))]
    return Reader("a", valid, lambda path: read_idx(path, 3), (DataError,))


def gz_reader(folder: Path) -> Reader:
    valid = [gzip.compress(idx_bytes(np.arange(24 * n).reshape(2 * n, 3, 4))) for n in (1, 5)]
    return Reader("a.gz", valid, lambda path: read_idx(path, 3), (DataError,), mutations.gzipped, DEFLATE)


def _batches() -> dict[str, bytes]:
    rng = np.random.default_rng(4)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    return {
        name: pickle.dumps({b"data": rng.integers(0, 256, (1, 3072)).astype(np.uint8), b"labels": [3]}, protocol)
        for protocol, name in enumerate(names)
    }


def cifar_reader(folder: Path) -> Reader:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    for name, content in _batches().items():
        (place / name).write_bytes(content)
    name = f"{place.name}/data_batch_1"
    return Reader(
        name,
        list(_batches().values()),
        lambda path: load_cifar10(folder, download=False),
        (DataError,),
        mutations.pickled,
    )


def tar_reader(folder: Path) -> Reader:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in _batches().items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return Reader(
        "cifar-10-python.tar.gz",
        [out.getvalue()],
        lambda path: load_cifar10(folder, download=False),
        (DataError,),
        mutations.tarred,
        DEFLATE,
    )


def image_reader(folder: Path) -> Reader:
    from PIL import Image

    rng, valid = np.random.default_rng(5), []
    pixels = rng.integers(0, 256, (7, 6, 4)).astype(np.uint8)
    for form, channels in (("PNG", 4), ("PNG", 3), ("JPEG", 3), ("GIF", 3), ("BMP", 3), ("WEBP", 3), ("TIFF", 3)):
        out = io.BytesIO()
        Image.fromarray(pixels[:, :, :channels]).save(out, form)
        valid.append(out.getvalue())
    for kind in "ab":
        (folder / kind).mkdir()
    Image.fromarray(pixels[:, :, :3]).save(folder / "a" / "whole.bmp")

    def wrong(data: bytes, rng: mutations.Rng, others: list[bytes]) -> bytes:
        return (mutations.png_chunks if data.startswith(b"\x89PNG") else mutations.blind)(data, rng, others)

    def read(path: Path) -> object:
        return load_image_folder(folder, image_size=(7, 6), val_fraction=0, test_fraction=0)

    def claims(data: bytes) -> int:
        """Of WebP, in which one colour of any number of pixels takes 40 bytes."""
        if data[8:12] != b"WEBP":
            return 0
        with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as image:
            return 4 * image.width * image.height
        return 0

    return Reader("b/a.png", valid, read, (DataError,), wrong, DEFLATE, claims)


def results_reader(folder: Path) -> Reader:
    row = {
        "question": "5.3",
        "title": "t",
        "model": "m",
        "dataset": "d",
        "origin": "embedded",
        "test_accuracy": 0.5,
        "n_train": 5,
        "n_val": 2,
        "n_test": 3,
        "chosen": {"lr": 0.1},
        "mean": 0.5,
        "std": 0.1,
        "n_seeds": 2,
        "seeds": [0.5, 0.4],
        "seconds": 1.5,
        "classes": ["a", "b"],
        "confusion": [[1, 2], [3, 4]],
        "search": [{"choice": {"lr": 0.1}, "val_accuracy": 0.3, "seconds": 0.1}],
    }
    path = folder / "results.json"
    valid = []
    for rows in ([row], [row, row | {"question": "2.3"}]):
        write_rows(path, rows)
        valid.append(path.read_bytes())

    def wrong(data: bytes, rng: mutations.Rng, others: list[bytes]) -> bytes:
        return mutations.json_text(mutations.tree(json.loads(data), rng), rng)

    def read(path: Path) -> object:
        rows = read_rows(path)
        # Drawing takes a hundred times as long, so it is done for some.
        return render(rows) if zlib.crc32(path.read_bytes()) % 50 == 0 else rows

    render([row])
    return Reader(path.name, valid, read, (ResultsError, OSError), wrong)


READERS = {
    "model": model_reader,
    "checkpoint": checkpoint_reader,
    "npz": npz_reader,
    "idx": idx_reader,
    "gz": gz_reader,
    "cifar": cifar_reader,
    "tar": tar_reader,
    "image": image_reader,
    "results": results_reader,
}


# -- reading ------------------------------------------------------------------------------------------------


def case(kind: str, seed: int) -> Outcome:
    warnings.simplefilter("ignore")  # of the decoders, about metadata
    signal.signal(signal.SIGALRM, _too_long)
    outcome = Outcome()
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as name:
        reader = READERS[kind](Path(name))
        path = Path(name) / reader.name
        for content in reader.valid:  # and warm up what is imported at the first time
            path.write_bytes(content)
            reader.read(path)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MORE, resource.RLIM_INFINITY))
        for number in range(FILES):
            rng = np.random.default_rng((seed, number))
            data = mutations.pick(rng, reader.valid)
            damage = reader.wrong if reader.wrong and rng.random() < 0.6 else mutations.blind
            for _ in range(int(rng.integers(1, 4))):
                try:
                    data = damage(data, rng, reader.valid) or b"\0"
                except Exception:  # damaged beyond what the mutation understands
                    data = mutations.blind(data, rng, reader.valid) or b"\0"
            path.write_bytes(data)
            taken, wrong = judged(reader, path)
            outcome.counts["files"] += 1
            outcome.counts["taken as valid"] += taken
            if wrong:
                KEPT.mkdir(exist_ok=True)
                kept = KEPT / f"{kind}-{seed}-{number}"
                kept.write_bytes(data)
                outcome.failures.append(f"{wrong} ({kept})")
    return outcome


def judged(reader: Reader, path: Path) -> tuple[bool, str | None]:
    """(whether the file was read, what was wrong with how that went)."""
    before = _peak()
    taken, wrong = _read(reader, path)
    grown = _peak() - before
    if wrong is None and grown > CONSTANT:
        wrong = _out_of_proportion(reader, path, grown)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is measured anew
    return taken, wrong


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(reader: Reader, path: Path) -> tuple[bool, str | None]:
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # where no signal gets through
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader.read(path)
    except TooLong:
        return False, f"it took more than {SECONDS} s"
    except reader.errors as error:
        text = str(error)
        if isinstance(error.__cause__ or error.__context__, MemoryError):
            return False, f"it asked for more than {MORE >> 20} MiB: {text}"
        if len(text) >= 300 or not text.isprintable():
            return False, f"not one sentence: {text!r:.400}"
        return False, None
    except Exception as error:
        return False, f"{type(error).__name__}: {str(error)!r:.200}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return True, None


def _out_of_proportion(reader: Reader, path: Path, grown: int) -> str | None:
    """Reads it again, every allocation counted; those of libraries that do not say so are in `grown`."""
    tracemalloc.start()
    try:
        value = None
        with contextlib.suppress(*reader.errors):
            value = reader.read(path)
        result = tracemalloc.get_traced_memory()[0] if value is not None else 0
        peak = max(tracemalloc.get_traced_memory()[1], grown)
    finally:
        tracemalloc.stop()
    data = path.read_bytes()
    justified = reader.ratio * len(data) + reader.claims(data) + result + CONSTANT
    if peak <= 4 * justified:
        return None
    return f"it took {peak / 2**20:.0f} MiB, justified are {justified / 2**20:.1f}"


def _too_long(*_) -> None:
    raise TooLong


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


if __name__ == "__main__":
    sys.exit(run(case, arguments(__doc__, cases=250, kinds=tuple(READERS))))
