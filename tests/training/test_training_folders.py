"""Folders of images, with classes, without, and with the labels of detectors; and what is wrong with them, by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeprune.errors import ModelLoadError, UsageError
from edgeprune.training.data import DataSet, load_data
from edgeprune.training.sources import images as images_module
from edgeprune.training.sources.pixels import Pixels

SHAPE = (1, 3, 16, 16)
Draw = Callable[..., Path]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Writes an image of one colour: ``draw("a/b.png", (255, 0, 0), size=(20, 10))``."""

    def write(name: str, colour: Any = (200, 100, 50), size: tuple[int, int] = (20, 10)) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(file)
        return file

    return write


def opened(folder: Path, **options: Any) -> DataSet:
    return load_data(str(folder), **{"input_shape": SHAPE, **options})


def all_of(half: Any) -> Any:
    return half.take(torch.arange(half.size))


# -- classes, and images without --------------------------------------------------------------------


def test_folders_of_classes_are_numbered_by_their_names(draw: Draw, tmp_path: Path) -> None:
    for half, counts in (("train", {"cat": 3, "ant": 2}), ("val", {"ant": 1})):
        for name, count in counts.items():
            for i in range(count):
                draw(f"{half}/{name}/{i}.jpg")
    data = opened(tmp_path)
    assert (data.kind, data.names, data.classes) == ("labels", ("ant", "cat"), 2)
    assert (all_of(data.train).targets.tolist(), all_of(data.test).targets.tolist()) == ([0, 0, 1, 1, 1], [0])
    assert data.input_shape == SHAPE
    assert all_of(data.train).inputs.dtype == torch.float32


def test_without_a_test_half_classes_are_split_alike_by_the_seed(draw: Draw, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(10):
            draw(f"{name}/{i}.png")
    first, again, other = (opened(tmp_path, seed=s) for s in (0, 0, 1))
    assert all_of(first.test).targets.tolist() == [0, 0, 1, 1]
    assert first.test.files == again.test.files != other.test.files
    assert not {*first.test.files} & {*first.train.files}
    assert first.train.size == 16


def test_images_without_classes_have_no_targets(draw: Draw, tmp_path: Path) -> None:
    for i in range(6):
        draw(f"{i}.png")
    data = opened(tmp_path)
    assert (data.kind, data.train.size, data.test.size) == ("none", 5, 1)
    assert all_of(data.train).targets is None


def test_what_is_wrong_with_a_folder_is_named(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match="holds neither images nor folders"):
        opened(tmp_path / "empty")
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(ModelLoadError, match=r"bare/cat holds no images"):
        opened(tmp_path / "bare")
    draw("odd/train/a/0.png")
    draw("odd/test/b/0.png")
    with pytest.raises(ModelLoadError, match=r"odd/test has classes that .* has not: b"):
        opened(tmp_path / "odd")
    draw("one/0.png")
    with pytest.raises(ModelLoadError, match="too few images"):
        opened(tmp_path / "one")
    with pytest.raises(UsageError, match="is not the shape of an input"):
        load_data(str(tmp_path / "odd"))


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_broken_image_is_found_at_once(draw: Draw, tmp_path: Path, cut: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:cut])
    with pytest.raises(ModelLoadError, match=r"2\.png cannot be read as an image"):
        opened(tmp_path)


def test_pixels_beyond_the_memory_meant_for_them_are_read_anew(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "CACHE_BYTES", 2 * 3 * 16 * 16)
    for i in range(5):
        draw(f"{i}.png", (i, 0, 0))
    data = opened(tmp_path, pixels="raw")
    assert all_of(data.train).inputs[:, 0, 8, 8].tolist() == [float(f.stem) for f in data.train.files]
    assert len(data.train._cache) == 2
    data.train.files[3].unlink()
    with pytest.raises(ModelLoadError, match="cannot be read"):
        all_of(data.train)


# -- pixels -----------------------------------------------------------------------------------------


def test_scales(draw: Draw, tmp_path: Path) -> None:
    for i in range(3):
        draw(f"{i}.png", (255, 0, 51))
    expected = {
        "raw": [255, 0, 51],
        "unit": [1, 0, 0.2],
        "signed": [1, -1, -0.6],
        "imagenet": [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225],
        "bgr,unit": [0.2, 0, 1],
        "mean=0.5/0/0.1,std=2": [0.25, 0, 0.05],
    }
    for text, values in expected.items():
        data = opened(tmp_path, pixels=text)
        assert all_of(data.train).inputs[0, :, 8, 8].tolist() == pytest.approx(values, abs=1e-5), text
    assert opened(tmp_path).images == "rgb, 0 to 1, less 0.485/0.456/0.406, by 0.229/0.224/0.225, crop"


def test_fits_say_where_the_image_lies(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # the left half is white
    image.save(tmp_path / "x.png")
    for fit, placed, row in (
        ("letterbox", (0.4, 0.4, 0, 4), [114, 255, 0, 114]),
        ("stretch", (0.4, 0.8, 0, 0), [255, 255, 0, 0]),
    ):
        pixels, found = Pixels.parse(f"raw,{fit}", "unit", 3).read(tmp_path / "x.png", 16, 16)
        assert found == pytest.approx(placed)
        assert pixels[0, [1, 8, 8, 14], [2, 2, 13, 13]].tolist() == row
    pixels, found = Pixels.parse("raw,crop", "unit", 3).read(tmp_path / "x.png", 16, 16)
    assert (pixels[0, 8, 2], pixels[0, 8, 13]) == (255, 0)
    assert found.scale_x == pytest.approx(0.9, abs=0.05)
    same, found = Pixels.parse("raw,crop", "unit", 3).read(tmp_path / "x.png", 20, 40)
    assert found == (1, 1, 0, 0)
    assert np.array_equal(same.numpy().transpose(1, 2, 0), np.asarray(image))


def test_grey_sixteen_bits_palettes_and_turned_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0xC8FF, np.uint16)).save(tmp_path / "deep.png")
    Image.new("P", (8, 8), 0).save(tmp_path / "palette.gif", transparency=0)
    turned = Image.new("RGB", (8, 16))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.paste((255, 255, 255), (0, 0, 8, 8))
    turned.save(tmp_path / "turned.png", exif=exif)
    grey = Pixels.parse("raw", "unit,stretch", 1)
    assert grey.order == "grey"
    assert grey.read(tmp_path / "deep.png", 8, 8)[0].unique().tolist() == [0xC8]
    assert grey.read(tmp_path / "palette.gif", 8, 8)[0].shape == (1, 8, 8)
    pixels, _ = Pixels.parse("raw", "unit,stretch", 3).read(tmp_path / "turned.png", 8, 16)
    assert pixels[0, 4, 2] == 0
    assert pixels[0, 4, 13] == 255


@pytest.mark.parametrize("text", ["imagnet", "mean=x", "mean=1/2", "std=0", "grey", "fit=crop"])
def test_pixels_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        Pixels.parse(text, "unit,stretch", 3)


def test_a_network_of_other_channels_takes_no_images(draw: Draw, tmp_path: Path) -> None:
    draw("0.png")
    with pytest.raises(UsageError, match="1 or 3 channels, and the network takes 4"):
        opened(tmp_path, input_shape=(1, 4, 8, 8))


# -- YOLO -------------------------------------------------------------------------------------------


@pytest.fixture
def yolo(draw: Draw, tmp_path: Path) -> Path:
    for half in ("train", "val"):
        (tmp_path / "labels" / half).mkdir(parents=True)
        for i in range(2):
            draw(f"images/{half}/{i}.png", size=(40, 20))
        (tmp_path / "labels" / half / "0.txt").write_text("1 0.5 0.5 0.5 1\n\n0 0 0 0.5 0 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: red, 1: blue}\n")
    return tmp_path


def test_yolo_labels_follow_the_image_into_the_network(yolo: Path) -> None:
    data = opened(yolo)
    assert (data.kind, data.names, data.name) == ("boxes", ("red", "blue"), yolo.name)
    first, second = all_of(data.train).targets
    # 40 x 20 into 16 x 16: scaled by 0.4, moved down by 4. An outline counts as the box around it.
    assert first.tolist() == [[1, 4, 4, 12, 12, 0], [0, 0, 4, 8, 8, 0]]
    assert second.shape == (0, 6)
    assert "letterbox" in data.images
    assert opened(yolo, pixels="stretch").train.take(torch.tensor([0])).targets[0][0].tolist() == [1, 4, 0, 12, 16, 0]
    assert load_data(str(yolo / "data.yaml"), input_shape=SHAPE).train.size == 2
    with pytest.raises(UsageError, match="cut off by a crop"):
        opened(yolo, pixels="crop")


def test_yolo_without_a_description_and_with_lists(yolo: Path) -> None:
    (yolo / "list.txt").write_text("./images/train/0.png\nimages/train/1.png\n")
    (yolo / "data.yaml").write_text("train: list.txt\nnc: 2\n")
    data = opened(yolo)
    assert (data.train.size, data.test.size, data.names) == (1, 1, ("0", "1"))
    (yolo / "data.yaml").unlink()
    data = opened(yolo)
    assert (data.kind, data.train.size, data.classes) == ("boxes", 2, 0)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("2 0.5 0.5 0.1 0.1", r"0\.txt: line 2 has class 2, of 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "line 2 has class -1"),
        ("0 0.9 0.5 0.5 0.1", "line 2 has a box outside of the image"),
        ("0 0.5 0.5 0.1", "line 2 has 4 numbers"),
        ("0 0.5 0.5 0.1 nan", "not finite"),
        ("car 0.5 0.5 0.1 0.1", "something else than numbers"),
    ],
)
def test_labels_that_cannot_be_right_are_named_with_file_and_line(yolo: Path, line: str, match: str) -> None:
    (yolo / "labels" / "val" / "0.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(ModelLoadError, match=match):
        opened(yolo)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("train: [", "is no YAML file"),
        ("train: images/train\n", "names no classes"),
        ("train: images/other\nnames: [a]\n", "images/other does not exist"),
        ("train: images/train\nnames: {1: a}\n", "do not count from 0"),
    ],
)
def test_descriptions_that_cannot_be_right(yolo: Path, text: str, match: str) -> None:
    (yolo / "data.yaml").write_text(text)
    with pytest.raises(ModelLoadError, match=match):
        opened(yolo)


def test_images_without_any_labels_are_no_yolo_data(yolo: Path) -> None:
    for file in yolo.rglob("*.txt"):
        file.unlink()
    with pytest.raises(ModelLoadError, match="none of the images"):
        opened(yolo)


# -- COCO -------------------------------------------------------------------------------------------


@pytest.fixture
def coco(draw: Draw, tmp_path: Path) -> Path:
    for half in ("train2017", "val2017"):
        draw(f"{half}/a.png", size=(40, 20))
        draw(f"{half}/b.png", size=(40, 20))
        body = {
            "images": [{"id": 7 + i, "file_name": f"{n}.png", "width": 40, "height": 20} for i, n in enumerate("ab")],
            "categories": [{"id": 5, "name": "cat"}, {"id": 3, "name": "ant"}],
            "annotations": [
                {"id": 1, "image_id": 8, "category_id": 5, "bbox": [10, 0, 20, 20]},
                {"id": 2, "image_id": 8, "category_id": 3, "bbox": [0, 0, 20, 10], "iscrowd": 1},
            ],
        }
        file = tmp_path / "annotations" / f"instances_{half}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(body))
    return tmp_path


def test_coco_categories_are_numbered_by_their_ids(coco: Path) -> None:
    data = opened(coco)
    assert (data.kind, data.names, data.train.size, data.test.size) == ("boxes", ("ant", "cat"), 2, 2)
    first, second = all_of(data.test).targets
    assert first.shape == (0, 6)
    assert second.tolist() == [[1, 4, 4, 12, 12, 0], [0, 0, 4, 8, 8, 1]]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda body: body["annotations"][0].update(image_id=9), "annotation 1 is of image 9"),
        (lambda body: body["annotations"][0].update(category_id=9), "annotation 1 is of category 9"),
        (lambda body: body["annotations"][0].update(bbox=[30, 0, 20, 20]), "annotation 1 has a box outside"),
        (lambda body: body["annotations"][0].update(bbox=[1, 2, 3]), "bbox of four numbers"),
        (lambda body: body["images"][0].update(file_name="c.png"), r"there is no image .*c\.png"),
        (lambda body: body.pop("categories"), "no lists of images"),
        (lambda body: body.update(categories=[]), "no categories"),
    ],
)
def test_annotations_that_cannot_be_right(coco: Path, change: Callable[[Any], Any], match: str) -> None:
    file = coco / "annotations" / "instances_train2017.json"
    body = json.loads(file.read_text())
    change(body)
    file.write_text(json.dumps(body))
    with pytest.raises(ModelLoadError, match=match):
        opened(coco)


def test_annotations_of_one_half_are_split(coco: Path) -> None:
    (coco / "annotations" / "instances_train2017.json").unlink()
    data = opened(coco)
    assert (data.train.size, data.test.size) == (1, 1)
    (coco / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(ModelLoadError, match="it is no JSON file"):
        opened(coco)
