"""What is said of a camera frame, and frames that are made of the images of a data set."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import BadInputError, UsageError
from edgeprune.models.image_input import ImageInput

IMAGENET = ImageInput("bgr", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("rgb", ImageInput()),
        ("bgr:imagenet", IMAGENET),
        ("std=0.229,0.224,0.225:mean=0.485,0.456,0.406:order=bgr", IMAGENET),
        ("mean=0.5:std=0.25:input=camera:data=nearest", ImageInput("rgb", (0.5,), (0.25,), "camera", "nearest")),
    ],
)
def test_what_is_said(said: str, expected: ImageInput) -> None:
    assert ImageInput.parse(said) == expected
    assert ImageInput.parse(str(expected)) == expected
    assert ImageInput.from_json(expected.to_json()) == expected


@pytest.mark.parametrize(
    "said",
    ["", "rgbx", "gbr", "rgb:bgr", "imagenet:std=1", "mean=", "mean=a", "std=0", "std=-1", "std=nan", "mean=inf"],
)
def test_what_says_nothing_is_refused(said: str) -> None:
    with pytest.raises(UsageError) as caught:
        ImageInput.parse(said)
    assert "bgr:imagenet" in caught.value.hint


def test_frames_come_back_from_what_was_made_of_them() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    images = IMAGENET.normalised(frames).numpy()
    assert images.shape == (4, 3, 5, 6)
    red = (frames[..., 2] / 255 - 0.485) / 0.229  # frames are BGR
    np.testing.assert_allclose(images[:, 0], red, rtol=1e-5, atol=1e-6)
    found, distance = IMAGENET.frames(images)
    assert (found == frames).all()
    assert found.dtype == np.uint8
    assert distance < 1e-3


def test_images_that_are_no_frames() -> None:
    frames = np.full((1, 2, 2, 3), 100, np.uint8)
    images = IMAGENET.normalised(frames).numpy()
    images[0, 0, 0, 0] += 0.3 / (255 * 0.229)
    with pytest.raises(BadInputError, match=r"0.3 grey levels beside") as caught:
        IMAGENET.frames(images)
    assert "data=nearest" in caught.value.hint
    images[0, 1, 1, 1] = 50.0  # whiter than white
    nearest = ImageInput.parse(f"{IMAGENET}".replace("data=exact", "data=nearest"))
    assert nearest is not None
    found, distance = nearest.frames(images)
    assert distance > 100
    assert sorted(np.unique(found)) == [100, 255]
    for image in (IMAGENET, nearest):
        with pytest.raises(BadInputError, match="inf grey levels"):
            image.frames(np.full_like(images, np.nan))
