"""One image file: which formats are opened, and how each becomes bytes of grey or colour."""

import logging
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from pynn.data import DataError, image_files
from pynn.data.images import image_size_of, read_image
from pynn.data.junk import is_junk

Image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize("extension", ["png", "bmp", "gif", "webp", "ppm", "tiff", "jpg"])
def test_formats(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    options = (
        {"lossless": True}
        if extension == "webp"
        else {"quality": 100, "subsampling": 0}
        if extension == "jpg"
        else {}
    )
    Image.fromarray(PIXELS).save(path, **options)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(path, None, False), expected.transpose(2, 0, 1))
    assert image_size_of(path) == (5, 4)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.eps"])
def test_an_eps_of_any_name_starts_nothing(tmp_path, name, monkeypatch):
    def start(*args, **kwargs):
        raise AssertionError("an external program was started")

    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("subprocess.Popen", start)
    Image.fromarray(PIXELS).save(tmp_path / "a.eps")
    path = tmp_path / name
    if name != "a.eps":
        (tmp_path / "a.eps").rename(path)
    with pytest.raises(DataError, match=f"{name}: not a readable image: it is none of PNG, JPEG"):
        read_image(path, None, False)


@pytest.mark.parametrize("kind", ["tga", "pcx", "ico", "sgi", "icns", "dds", "pdf", "im"])
def test_other_formats_are_refused(tmp_path, kind):
    try:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "a", kind)
    except Exception:
        pytest.skip(f"Pillow writes no {kind} here")
    with pytest.raises(DataError, match="none of PNG, JPEG, BMP, GIF, WEBP, PPM, TIFF"):
        read_image(tmp_path / "a", None, False)


# -- colour modes -----------------------------------------------------------------------------------------------


def transparent(mode: str):
    """A black image whose left half is transparent, in each of the ways there are."""
    alpha = np.zeros((4, 4), np.uint8)
    alpha[:, 2:] = 255
    rgba = Image.fromarray(np.dstack([np.zeros((4, 4, 3), np.uint8), alpha]))
    if mode in ("RGBA", "LA"):
        return rgba.convert(mode), {}
    drawn = np.zeros((4, 4), np.uint8)
    drawn[:, :2] = 7
    if mode == "P":
        image = Image.fromarray(drawn).convert("P")
        image.putpalette([0, 0, 0] * 256)
        return image, {"transparency": 7}
    if mode == "P, bytes":
        image = Image.fromarray(drawn).convert("P")
        image.putpalette([0, 0, 0] * 256)
        return image, {"transparency": bytes([255] * 7 + [0] + [255] * 248)}
    if mode == "L":
        return Image.fromarray(drawn), {"transparency": 7}
    return Image.fromarray(np.dstack([drawn] * 3)), {"transparency": (7, 7, 7)}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P, bytes", "L", "RGB"])
@pytest.mark.parametrize("grayscale", [False, True])
def test_transparent_parts_are_white(tmp_path, mode, grayscale):
    image, options = transparent(mode)
    image.save(tmp_path / "a.png", **options)
    out = read_image(tmp_path / "a.png", None, grayscale)
    assert (out[:, :, :2] == 255).all()
    assert (out[:, :, 2:] == 0).all()


def test_half_transparent_parts_are_mixed_with_white(tmp_path):
    Image.fromarray(np.full((2, 2, 4), (100, 0, 200, 128), np.uint8)).save(tmp_path / "a.png")
    out = read_image(tmp_path / "a.png", None, False)[:, 0, 0].astype(int)
    np.testing.assert_allclose(out, 255 + (np.array([100, 0, 200]) - 255) * 128 / 255, atol=1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_colour_modes_become_rgb_and_grey(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).convert(mode).save(path)
    assert (read_image(path, None, False) >= 254).all()
    assert read_image(path, None, True).shape == (1, 8, 8)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused(tmp_path, dtype):
    Image.fromarray(np.zeros((4, 4), dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match="its pixels have more than 8 bits"):
        read_image(tmp_path / "a.tiff", None, False)


@pytest.mark.parametrize("extension", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, extension):
    frames = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in (40, 90, 200)]
    options = {"lossless": True} if extension == "webp" else {}
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:], **options)
    out = read_image(tmp_path / f"a.{extension}", None, False)
    assert out.shape == (3, 4, 4)
    assert (out == 40).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_turned_image(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert image_size_of(tmp_path / "a.png") == read_image(tmp_path / "a.png", None, False).shape[1:]


# -- files that mean harm ---------------------------------------------------------------------------------------


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks, rows=b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(chunks)
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(20_000, 20_000), "exceeds limit"),
        (png(9000, 9000), "9000×9000 pixels, more than its"),
        (
            b"BM"
            + struct.pack("<IHHI", 194, 0, 0, 54)
            + struct.pack("<IiiHHIIIIII", 40, 6, 8_323_079, 1, 24, *[0] * 6)
            + bytes(140),
            "6×8323079 pixels, more than its 194 bytes can hold",
        ),
        (b"P6 9000 9000 255\n" + bytes(100), "more than its"),
        (png(2**31 - 1, 2**31 - 1), ""),
        (png(0, 0), ""),
        (png(4, 4), ""),
        (png(1, 1, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))), rows=b"\0\0"), ""),
        (png(1, 1, png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000))), rows=b"\0\0"), ""),
        (b"GIF89a" + b"\xff" * 500, ""),
        (b"BM" + b"\xff" * 500, ""),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 500, ""),
        (b"P6\n99999999 99999999\n255\n", ""),
        (b"P3\n" + b"9" * 100_000, ""),
        (b"\xff\xd8\xff\xe0" + b"\xff" * 500, ""),
        (b"RIFF\xff\xff\xff\xffWEBPVP8L" + b"\xff" * 200, ""),
        (b"", "none of PNG"),
    ],
)
def test_hostile_images_are_refused_within_little_memory(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    start = time.process_time()
    tracemalloc.start()
    try:
        out = read_image(path, None, False)
    except DataError as error:
        assert message in str(error)  # noqa: PT017 - text that is too long is passed over by some versions of Pillow
        assert str(error).startswith(f"{path}: not a readable image")  # noqa: PT017
        assert len(str(error)) < 300  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert out.shape == (3, 1, 1)
        assert not message
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000
    assert time.process_time() - start < 5


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, progressive=True)
    read_image(path, None, False)
    content = path.read_bytes()
    at = content.rindex(b"\xff\xda")
    path.write_bytes(content[:at] + content[at:-2] * 200 + content[-2:])
    with pytest.raises(DataError, match="more than 100 scans"):
        read_image(path, None, False)


def test_what_cameras_put_into_and_behind_a_jpeg_is_no_scan(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010E] = "preview"
    Image.fromarray(PIXELS).save(path, exif=exif.tobytes() + b"\xff\xda\xff\xd9" * 500)
    path.write_bytes(path.read_bytes() + b"film" + b"\xff\xda" * 500)
    assert read_image(path, None, False).shape == (3, 5, 4)


def test_the_first_of_several_pictures_in_a_jpeg(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (40, 200)]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert abs(read_image(tmp_path / "a.jpg", None, False).astype(int) - 40).max() <= 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for call in (lambda: read_image(tmp_path / "a.png", None, False), lambda: image_size_of(tmp_path / "a.png")):
        with pytest.raises(DataError, match=r"a\.png: not a readable image: it is a FIFO, not a regular file"):
            call()


def test_a_name_that_is_no_text_is_shown(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n\x1b[31m.png"))
    try:
        path.write_bytes(b"no image")
    except OSError:
        pytest.skip("the file system takes no such names")
    with pytest.raises(DataError, match=r"caf\\xe9 \\x1b\[31m\.png: not a readable image") as caught:
        read_image(path, None, False)
    assert str(caught.value).isprintable()


# -- which files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "junk"),
    [
        (".DS_Store", True),
        (".git", True),
        ("._a.png", True),
        ("Thumbs.db", True),
        ("THUMBS.DB", True),
        ("desktop.ini", True),
        ("Desktop.ini", True),
        ("__MACOSX", True),
        ("a.png", False),
        ("thumbs", False),
        ("a.db", False),
    ],
)
def test_what_is_passed_over(name, junk):
    assert is_junk(name) == junk


def test_image_files_below_a_folder(tmp_path):
    for name in ("b/2.png", "a/1.png", "3.png", ".hidden/4.png", "a/Thumbs.db", "__MACOSX/a/1.png", "a/.5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "b", target_is_directory=True)
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["3.png", "a/1.png", "again/2.png"] or found == ["3.png", "a/1.png", "b/2.png"]
    assert image_files(tmp_path / "3.png") == [tmp_path / "3.png"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("extension", ["png", "bmp", "gif", "webp", "ppm", "tiff", "jpg"])
def test_images_of_one_colour_are_no_false_claims(tmp_path, mode, extension):
    """Those that compress most; TIFF in each of its compressions."""
    if (mode == "RGBA" and extension in ("jpg", "ppm")) or (mode == "P" and extension in ("ppm", "jpg")):
        pytest.skip("the format has no such images")
    options = {"webp": [{"lossless": True}], "jpg": [{"progressive": True, "optimize": True}]}.get(extension, [{}])
    if extension == "tiff":
        options = [
            {"compression": kind} for kind in (None, "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate")
        ]
        options += [{"compression": "group4"}] * (mode == "1")
    image = Image.new(mode, (2000, 1500))
    for each in options:
        image.save(tmp_path / f"a.{extension}", **each)
        assert read_image(tmp_path / f"a.{extension}", (8, 8), True).shape == (1, 8, 8)


def test_what_pillow_logs_does_not_reach_stderr(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("PIL"), "handlers", [])
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())  # with the stderr of this test
    Image.fromarray(PIXELS).save(tmp_path / "a.tiff")
    content = bytearray((tmp_path / "a.tiff").read_bytes())
    at = content.index(struct.pack("<HHI", 277, 3, 1))
    content[at + 8 : at + 10] = struct.pack("<H", 37584)  # samples of a pixel
    (tmp_path / "a.tiff").write_bytes(content)
    with pytest.raises(DataError):
        read_image(tmp_path / "a.tiff", None, False)
    assert capsys.readouterr().err == ""
