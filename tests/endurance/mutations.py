"""How files are damaged: blindly, and by what they are made of, so that checks behind the first are met."""

from __future__ import annotations

import copy
import gzip
import io
import json
import pickletools
import struct
import tarfile
import zipfile
import zlib

import numpy as np

Rng = np.random.Generator

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63)
VALUES = (
    *(None, True, False, "", "x", "\x00", "\ud800", "\x1b[31m", "a" * 5000, "=1+1", "0", "NaN", "Linear"),
    *(*NUMBERS, -(2**31), -(2**63), 10**400, 0.5, 1e308, 1e-320, -0.0, float("nan"), float("inf"), -float("inf")),
    *([], {}, [[]], [{}], {"": {}}, [0] * 500, {"type": "Linear"}, {"type": "Sequential", "layers": []}),
)
DEEP = 100_000  # of nested brackets


def pick(rng: Rng, choices):
    return choices[int(rng.integers(len(choices)))]


# -- bytes --------------------------------------------------------------------------------------------------


def blind(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A few bits, bytes or numbers changed, a piece cut off, repeated, inserted, or taken from another file."""
    changed = bytearray(data)
    near_start = rng.random() < 0.5  # where headers are
    at = int(rng.integers(min(len(data), 256) if near_start else len(data)))
    length = int(rng.integers(1, 64))
    kind = rng.integers(9)
    if kind == 0:
        return data[:at]
    if kind == 1:
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            changed[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        changed[at] = pick(rng, (0, 1, 0x7F, 0x80, 0xFE, 0xFF, int(rng.integers(256))))
    elif kind == 3:
        changed[at:at] = changed[at : at + length] * int(rng.integers(1, 20))
    elif kind == 4:
        del changed[at : at + length]
    elif kind == 5:
        changed[at:at] = rng.bytes(length)
    elif kind == 6:
        form = pick(rng, ("<H", ">H", "<I", ">I", "<Q", ">Q"))
        number = struct.pack(form, pick(rng, NUMBERS) % 2 ** (8 * struct.calcsize(form)))
        changed[at : at + len(number)] = number
    elif kind == 7:
        other = pick(rng, others)
        changed[at:] = other[int(rng.integers(len(other))) :]
    else:
        return digits(data, rng)
    return bytes(changed)


def digits(data: bytes, rng: Rng) -> bytes:
    """A number written in digits becomes another."""
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57 and not (i and 48 <= data[i - 1] <= 57)]
    if not places:
        return data[::-1]
    start = end = pick(rng, places)
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    number = pick(rng, (*map(str, NUMBERS), "9" * 400, "1e999", "-0", "0x10", "1_0", "NaN", "Infinity", "", "٣"))
    return data[:start] + number.encode() + data[end:]


# -- structures ---------------------------------------------------------------------------------------------


def tree(value, rng: Rng):
    """A copy of a JSON value with one place changed: its value, its name, or whether it is there."""
    value = copy.deepcopy(value)
    places = [(None, None), *_places(value)]
    holder, key = pick(rng, places)
    if holder is None:
        return pick(rng, VALUES) if rng.random() < 0.2 else value
    kind = rng.integers(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(pick(rng, VALUES))] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.extend([holder[key]] * int(rng.integers(1, 200)))
    elif kind == 3:
        other, place = pick(rng, places[1:])
        holder[key] = copy.deepcopy(other[place])
    else:
        holder[key] = pick(rng, VALUES)
    return value


def _places(value):
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def json_text(value, rng: Rng) -> bytes:
    if rng.random() < 0.01:
        return b"[" * DEEP if rng.random() < 0.5 else b'{"a":' * DEEP
    return json.dumps(value, ensure_ascii=bool(rng.random() < 0.5)).encode("utf-8", "surrogatepass")


def array(values: np.ndarray, rng: Rng) -> np.ndarray:
    """An array like `values` but for its shape, dtype or some values."""
    kind = rng.integers(5)
    if kind == 0 and values.dtype.kind == "f":
        values = values.copy()
        values.flat[int(rng.integers(max(values.size, 1))) : None] = pick(rng, (np.nan, np.inf, -np.inf, 3e38, 0))
        return values
    if kind == 1:
        return values.reshape(-1)[: int(rng.integers(values.size + 1))]
    if kind == 2:
        return values.astype(pick(rng, (np.float64, np.float16, np.int64, np.uint8, np.bool_)))
    if kind == 3:
        return values[None]
    return np.zeros(pick(rng, ((), (0,), (1,), (3, 0, 2), (2,) * 16)), values.dtype)


def zipped(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A zip archive whose members, names, sizes or directory are not what they were, with right checksums."""
    members = [(each.filename, content) for each, content in _members(data)]
    i = int(rng.integers(len(members)))
    name, content = members[i]
    kind = rng.integers(5)
    if kind == 0:
        members[i] = name, blind(content, rng, others)
    elif kind == 1:
        members[i] = name, digits(content[:128], rng) + content[128:]
    elif kind == 2:
        members[i] = (
            str(pick(rng, ("X.npy", "y.npy", "../x.npy", "/etc/x", "x_val.npy", "a" * 3000, "é.npy"))),
            content,
        )
    elif kind == 3:
        members += [members[i]] * int(rng.integers(1, 30))
    else:
        members[i] = name, content + b"\0" * int(rng.integers(1, 1 << 16))
    out = io.BytesIO()
    method = pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue() if rng.random() < 0.7 else blind(out.getvalue(), rng, others)


def _members(data: bytes):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(each, archive.read(each)) for each in archive.infolist()]


def gzipped(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    content = gzip.decompress(data)
    if rng.random() < 0.01:
        content += b"\0" * (1 << 22)
    return gzip.compress(blind(content, rng, others), 1)


def pickled(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """Opcodes of a pickle exchanged, left out, doubled or repeated."""
    places = [place for _, _, place in pickletools.genops(data)] + [len(data)]
    i = int(rng.integers(len(places) - 1))
    start, end = places[i : i + 2]
    j = int(rng.integers(len(places) - 1))
    other = data[places[j] : places[j + 1]]
    kind = rng.integers(4)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:start] + other + data[end:]
    if kind == 2:
        return data[:start] + other * int(rng.integers(1, 2000)) + data[start:]
    opcode = pick(rng, [code.code.encode("latin1") for code in pickletools.opcodes])
    return data[:start] + opcode * int(pick(rng, (1, 1, 2, 1000, 100_000))) + data[start:]


def tarred(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """An archive of tar and gzip with other members, with right checksums."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as to,
    ):
        members = source.getmembers()
        chosen = int(rng.integers(len(members)))
        for i, member in enumerate(members):
            stream = source.extractfile(member)
            content = stream.read() if stream else b""
            if i == chosen:
                kind = rng.integers(5)
                if kind == 0:
                    content = blind(content, rng, others) if content else b""
                elif kind == 1:
                    member.name = pick(rng, ("../x", "/etc/x", "a" * 300, "\udcff", "cifar-10-batches-py"))
                elif kind == 2:
                    member.type = pick(rng, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE))
                    member.linkname = pick(rng, ("/dev/zero", "../../etc/passwd", member.name))
                elif kind == 3:
                    continue
                member.size = len(content)
                for _ in range(int(rng.integers(1, 50)) if kind == 4 else 0):
                    to.addfile(member, io.BytesIO(content))
            to.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return out.getvalue()


def png_chunks(data: bytes, rng: Rng, others: list[bytes]) -> bytes:
    """A PNG with a chunk changed, left out or repeated, with right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    i = int(rng.integers(len(chunks)))
    name, content = chunks[i]
    kind = rng.integers(4)
    if kind == 0:
        chunks[i] = name, blind(content, rng, others) if content else rng.bytes(9)
    elif kind == 1:
        del chunks[i]
    elif kind == 2:
        chunks[i:i] = [chunks[i]] * int(rng.integers(1, 50))
    else:
        name = pick(rng, (b"tEXt", b"zTXt", b"iCCP", b"PLTE", b"tRNS", b"eXIf", b"acTL", b"fcTL"))
        chunks[1:1] = [(name, b"k\0\0" + zlib.compress(b"\0" * int(rng.integers(1, 1 << 20))))]
    pieces = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return data[:8] + b"".join(pieces)
