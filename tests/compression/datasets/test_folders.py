"""Archives of images: what their folders say, how images become samples, and what no archive may hold."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherweight.report import ReportWarning
from tasks.compression.datasets.archives import Bounds, members
from tasks.compression.errors import CompressionError
from tests.compression.datasets.making import arrays, image, opened, refused, same, tar_of, zip_of

GREY = (4, 6, 1)


def archive(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    path = tmp_path / "images.csv"  # the name says nothing
    if kind == "zip":
        return zip_of(path, files, zipfile.ZIP_DEFLATED)
    return tar_of(path, files, "w:gz" if kind == "tar.gz" else "w")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_class_folders_become_labels(tmp_path: Path, kind: str) -> None:
    files = {"dog/1.png": image(10), "cat/x.jpg": image(200, kind="JPEG"), "dog/2": image(30, kind="BMP")}
    found = opened(archive(tmp_path, kind, files), GREY)
    data = found.read(frozenset({"x", "y"}))
    assert data["x"].shape == (3, *GREY)
    assert same(data["x"][:, 0, 0, 0], [10, 200, 30])
    assert same(data["y"], [1, 0, 1])
    source = found.source(data["x"])
    assert source.format == ("image_zip" if kind == "zip" else "image_tar")
    assert source.classes == ["cat", "dog"]
    assert source.details["images_per_class"] == {"cat": 1, "dog": 2}
    assert source.details["sizes"] == {"4x6": 3}
    assert source.details["layout"] == "class/image"


def test_train_and_test_folders_are_the_callers_split(tmp_path: Path) -> None:
    files = {
        "set/test/10/a.png": image(1),
        "set/train/9/a.png": image(2),
        "set/train/10/a.png": image(3),
        "set/test/9/a.png": image(4),
    }
    found = opened(archive(tmp_path, "zip", files), GREY)
    data = found.read(frozenset({"x_train", "y_train", "x_test", "y_test"}))
    assert same(data["x_train"][:, 0, 0, 0], [2, 3])
    assert same(data["x_test"][:, 0, 0, 0], [1, 4])
    assert same(data["y_train"], [0, 1])  # 9 comes before 10: whole numbers are ordered by value
    assert same(data["y_test"], [1, 0])
    assert found.source(data["x_train"]).details["layout"] == "set/train | test/class/image"


@pytest.mark.parametrize("folder", ["", "images/", "a/b/"])
def test_images_in_one_place_have_no_labels(tmp_path: Path, folder: str) -> None:
    path = archive(tmp_path, "zip", {f"{folder}1.png": image(1), f"{folder}2.png": image(2)})
    assert set(arrays(path, GREY)) == {"x"}


def test_one_folder_is_a_class_where_it_is_named_as_one(tmp_path: Path) -> None:
    path = archive(tmp_path, "zip", {"dog/1.png": image(1)})
    assert same(arrays(path, GREY, classes=["cat", "dog"])["y"], [1])


def test_unlabelled_splits(tmp_path: Path) -> None:
    path = archive(tmp_path, "zip", {"test/1.png": image(1), "train/2.png": image(2)})
    data = arrays(path, GREY)
    assert set(data) == {"x_train", "x_test"}
    assert same(data["x_test"][:, 0, 0, 0], [1])


def test_classes_given_are_in_the_order_given(tmp_path: Path) -> None:
    files = {"dog/1.png": image(1), "cat/1.png": image(2)}
    assert same(arrays(archive(tmp_path, "zip", files), GREY, classes=["dog", "owl", "cat"])["y"], [0, 2])
    fault = refused(archive(tmp_path, "zip", files), GREY, classes=["dog", "cats"])
    assert (fault.code, fault.pointer, fault.hint) == (
        "label_out_of_range",
        "/data/classes",
        "did you mean 'cats'?",
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a/1.png", "b/c/1.png"], "folders within folders"),
        (["a/1.png", "2.png"], "folders within folders"),
        (["train/a/1.png", "b/1.png"], "beside"),
        (["test/a/1.png", "test/b/1.png"], "none called train"),
        (["train/a/1.png", "val/a/1.png"], "val"),
    ],
)
def test_other_layouts_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    fault = refused(archive(tmp_path, "zip", {name: image() for name in names}), GREY)
    assert fault.code == "bad_data"
    assert said in fault.detail


def test_what_is_no_image_is_left_out_and_said(tmp_path: Path) -> None:
    files = {"a/1.png": image(), "b/1.png": image(), "b/readme.txt": b"hello", "__MACOSX/._1.png": b"x"}
    warnings: list[ReportWarning] = []
    found = opened(archive(tmp_path, "zip", files), GREY, warnings)
    assert len(found.read(frozenset({"x"}))["x"]) == 2
    assert [each.code for each in warnings] == ["members_left_out"]
    assert "1 files" in warnings[0].message
    assert "b/readme.txt" in warnings[0].message


@pytest.mark.parametrize(
    ("scale", "values"), [("0..255", [0, 51, 255]), ("0..1", [0, 0.2, 1]), ("-1..1", [-1, -0.6, 1])]
)
def test_scale(tmp_path: Path, scale: str, values: list[float]) -> None:
    files = {f"{place}.png": image(grey) for place, grey in enumerate((0, 51, 255))}
    x = arrays(archive(tmp_path, "zip", files), GREY, image={"scale": scale})["x"]
    assert x.dtype == np.float32
    assert np.allclose(x[:, 0, 0, 0], values, atol=1e-6)


def test_mean_and_std_are_per_channel_and_come_after_the_scale(tmp_path: Path) -> None:
    files = {"1.png": image((255, 0, 51), mode="RGB")}
    reading = {"scale": "0..1", "mean": [0.5, 0.25, 0.2], "std": [0.5, 0.5, 1]}
    x = arrays(archive(tmp_path, "zip", files), (4, 6, 3), image=reading)["x"]
    assert np.allclose(x[0, 0, 0], [1, -0.5, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "mode", "colour", "value"),
    [
        ((4, 6), "RGB", (9, 9, 9), 9),
        ((4, 6, 3), "L", 7, [7, 7, 7]),
        ((4, 6, 4), "RGB", (1, 2, 3), [1, 2, 3, 255]),
    ],
)
def test_colours_are_those_of_the_models_channels(
    tmp_path: Path, shape: Any, mode: str, colour: Any, value: Any
) -> None:
    x = arrays(archive(tmp_path, "zip", {"1.png": image(colour, mode=mode)}), shape)["x"]
    assert x.shape == (1, *shape)
    assert np.array_equal(x[0, 0, 0], value)


@pytest.mark.parametrize("shape", [(3, 4, 6), (3, 8, 5)], ids=["as-it-is", "resized"])
def test_channels_come_first_where_only_the_first_axis_can_be_they(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    files = {"1.png": image((255, 0, 51), mode="RGB")}
    reading = {"scale": "0..1", "mean": [0.5, 0.25, 0.2], "std": [0.5, 0.5, 1]}
    found = opened(archive(tmp_path, "zip", files), shape, image=reading)
    x = found.read(frozenset({"x"}))["x"]
    last = arrays(archive(tmp_path, "zip", files), (*shape[1:], 3), image=reading)["x"]
    assert x.shape == (1, *shape)
    assert np.array_equal(x, np.moveaxis(last, -1, 1))
    details = found.source(x).details
    assert (details["channels"], details["size"]) == ("first", list(shape[1:]))


def test_channels_come_last_where_either_axis_can_be_they(tmp_path: Path) -> None:
    found = opened(archive(tmp_path, "zip", {"1.png": image((1, 2, 3), mode="RGB")}), (4, 6, 3))
    x = found.read(frozenset({"x"}))["x"]
    assert same(x[0, 0, 0], [1, 2, 3])
    assert found.source(x).details["channels"] == "last"


def halves() -> bytes:
    """8 high, 4 wide: the upper half black, the lower white."""
    pixels = np.zeros((8, 4), np.uint8)
    pixels[4:] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("resize", "rows"),
    [
        ("stretch", [[0] * 4, [0] * 4, [255] * 4, [255] * 4]),
        ("center_crop", [[0] * 4, [0] * 4, [255] * 4, [255] * 4]),
        ("pad", [[0] * 4, [0] * 4, [0, 255, 255, 0], [0, 255, 255, 0]]),
    ],
)
def test_resize(tmp_path: Path, resize: str, rows: list[list[int]]) -> None:
    reading = {"resize": resize, "interpolation": "box"}
    found = opened(archive(tmp_path, "zip", {"1.png": halves()}), (4, 4), image=reading)
    assert same(found.read(frozenset({"x"}))["x"][0], rows)
    details = found.source(np.zeros((1, 4, 4))).details
    assert (details["resize"], details["interpolation"], details["resized"]) == (resize, "box", 1)


def test_stretch_and_crop_differ_where_the_sides_do(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(2, 8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    path = archive(tmp_path, "zip", {"1.png": stream.getvalue()})
    crop = arrays(path, (2, 2), image={"resize": "center_crop", "interpolation": "nearest"})["x"][0]
    assert same(crop, pixels[:, 3:5])
    stretch = arrays(path, (2, 2), image={"resize": "stretch", "interpolation": "box"})["x"][0]
    assert np.allclose(stretch, pixels.reshape(2, 2, 4).mean(-1), atol=0.51)


@pytest.mark.parametrize(
    ("shape", "reading", "pointer"),
    [
        ((None, None, 3), {}, "/data/image/size"),
        ((4, 6, 3), {"size": [8, 8]}, "/data/image/size"),
        ((4, 6, 3), {"color": "grayscale"}, "/data/image/color"),
        ((5, 6, 2), {}, "/data/image/color"),
        ((3, 4, 6), {"color": "grayscale"}, "/data/image/color"),
        ((3, 4, 6), {"size": [6, 4]}, "/data/image/size"),
        ((4, 6, 3), {"mean": [0, 0]}, "/data/image/mean"),
        ((10,), {}, None),
    ],
)
def test_images_that_do_not_fit_the_input_are_refused(
    tmp_path: Path, shape: Any, reading: dict[str, Any], pointer: str | None
) -> None:
    fault = refused(archive(tmp_path, "zip", {"1.png": image()}), shape, image=reading)
    assert (fault.code, fault.pointer) == ("shape_mismatch", pointer)


def test_any_size_takes_the_one_given(tmp_path: Path) -> None:
    path = archive(tmp_path, "zip", {"1.png": image()})
    assert arrays(path, (None, None, None), image={"size": [5, 7]})["x"].shape == (1, 5, 7, 3)


def deep() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6), 999, np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def animated() -> bytes:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (6, 4), (grey, grey, grey)) for grey in (0, 255)]
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def test_a_palette_with_transparent_colours_is_read_as_its_colours(tmp_path: Path) -> None:
    made = Image.new("P", (6, 4), 1)
    made.putpalette([0, 0, 0, 10, 20, 30])
    stream = io.BytesIO()
    made.save(stream, "PNG", transparency=b"\x00\xff")
    path = archive(tmp_path, "zip", {"1.png": stream.getvalue()})
    assert same(arrays(path, (4, 6, 3))["x"][0, 0, 0], [10, 20, 30])


def bomb(side: int) -> bytes:
    """A PNG of `side` times `side` pixels, of which only the header is there."""
    content = bytearray(image())
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (image()[:40], "bad_image"),
        (image(size=(40, 60), kind="JPEG")[:-200], "bad_image"),
        (image()[:16] + b"\xff" * 40, "bad_image"),
        (deep(), "dtype_not_allowed"),
        (animated(), "bad_image"),
        (bomb(8_200), "image_too_large"),
        (bomb(20_000), "image_too_large"),
        (b"", "too_few_samples"),
    ],
)
def test_images_that_cannot_be_used_are_refused(tmp_path: Path, content: bytes, code: str) -> None:
    fault = refused(archive(tmp_path, "zip", {"bad.png": content}), GREY)
    assert fault.code == code
    assert "bad.png" in fault.detail or not content


def special(kind: bytes, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo("a/x.png")
    info.type = kind
    for name, value in fields.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (special(tarfile.SYMTYPE, linkname="/etc/passwd"), "archive_link_not_allowed"),
        (special(tarfile.LNKTYPE, linkname="a/1.png"), "archive_link_not_allowed"),
        (special(tarfile.CHRTYPE, devmajor=1, devminor=5), "archive_special_file"),
        (special(tarfile.BLKTYPE), "archive_special_file"),
        (special(tarfile.FIFOTYPE), "archive_special_file"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, info: tarfile.TarInfo, code: str) -> None:
    assert refused(tar_of(tmp_path / "t", {"a/1.png": image(), "link": info}), GREY).code == code


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "C:/x.png", "..\\x.png", "a/\n.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    before = sorted(tmp_path.parent.iterdir())
    assert refused(archive(tmp_path, kind, {name: image()}), GREY).code == "archive_path_not_allowed"
    assert sorted(tmp_path.parent.iterdir()) == before


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("a/x.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "z", "w") as made:
        made.writestr(info, "/etc/passwd")
    assert refused(tmp_path / "z", GREY).code == "archive_link_not_allowed"


def test_an_archive_in_an_archive_is_refused(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner", {"1.png": image()}).read_bytes()
    for kind in ("zip", "tar", "tar.gz"):
        fault = refused(archive(tmp_path, kind, {"a/1.png": image(), "a/2.png": inner}), GREY)
        assert (fault.code, "a/2.png" in fault.detail) == ("archive_nested", True)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_of(tmp_path / "z", {"a/1.png": image()}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "z").write_bytes(content)
    assert refused(tmp_path / "z", GREY).code == "archive_encrypted"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path, kind: str) -> None:
    files = {f"{number}.png": bytes(1 << 20) for number in range(8)}
    path = archive(tmp_path, kind, files)
    bounds = Bounds(always_bytes=1 << 20)
    assert path.stat().st_size < (8 << 20) / 200
    assert told(path, bounds) == "archive_bomb"
    assert len(list(members(path))) == 8


def test_a_header_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.png")
    info.pax_headers = {"comment": "x" * (8 << 20)}
    with tarfile.open(tmp_path / "t", "w:gz", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info)
    assert told(tmp_path / "t", Bounds()) == "archive_bomb"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_too_many_members_and_too_large_ones_are_refused(tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path, kind, {f"{number}.png": image() for number in range(5)})
    assert told(path, Bounds(members=4)) == "too_many_files"
    assert told(path, Bounds(member_bytes=20)) == "archive_bomb"


def told(path: Path, bounds: Bounds) -> str:
    with pytest.raises(CompressionError) as caught:
        list(members(path, bounds))
    return caught.value.code


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_damaged_archive_is_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    files = {f"{number}/{number}.png": image() + noise for number in range(3)}
    content = archive(tmp_path, kind, files).read_bytes()
    cut_between = 512 * (1 + -(-len(files["0/0.png"]) // 512)) if kind == "tar" else len(content) - 6
    for damaged in (content[: len(content) // 2], content[:cut_between], content[:600]):
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        assert refused(path, GREY).code == "bad_archive"
    if kind != "tar":  # which has no checksums of its members
        broken = bytearray(content)
        broken[len(content) // 2] ^= 0xFF
        path.write_bytes(broken)
        assert refused(path, GREY).code == "bad_archive"


def test_large_splits_stay_on_disk_and_are_joined_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.compression.datasets.samplefile import join

    monkeypatch.setattr("tasks.compression.datasets.samplefile.IN_MEMORY_BYTES", 0)
    files = {
        "test/a/1.png": image(1),
        "train/a/2.png": image(2),
        "test/b/3.png": image(3),
        "train/b/4.png": image(4),
    }
    data = arrays(archive(tmp_path, "tar", files), GREY)
    whole = join(data["x_train"], data["x_test"])
    assert isinstance(whole, np.memmap)
    assert same(whole[:, 0, 0, 0], [2, 4, 1, 3])
    assert not isinstance(join(data["x_train"][1:], data["x_test"]), np.memmap)
    assert same(join(data["x_train"][1:], data["x_test"])[:, 0, 0, 0], [4, 1, 3])
    assert same(join(data["x_test"], data["x_train"])[:, 0, 0, 0], [1, 3, 2, 4])
