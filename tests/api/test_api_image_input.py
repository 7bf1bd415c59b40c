"""A fit whose program takes camera frames, and the typed arrays of an installed network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import edgeprune
from edgeprune.cli.main import main
from edgeprune.errors import BadInputError, UsageError
from edgeprune.models.image_input import ImageInput

SHAPE = (1, 3, 8, 8)
SAID = "bgr:mean=0.4:std=0.2"

# One worker runs them all: the fit takes seconds.
pytestmark = pytest.mark.xdist_group("api_image_input")


@pytest.fixture(scope="module")
def frames(arrays) -> dict[str, np.ndarray]:
    """The images as a camera would have taken them, by half."""
    image = ImageInput.parse(f"{SAID}:data=nearest")
    assert image is not None
    return {half: image.frames(arrays[f"x_{half}"].numpy())[0] for half in ("train", "test")}


@pytest.fixture(scope="module")
def run(source, arrays, frames, few, tmp_path_factory) -> edgeprune.Fit:
    folder, image = tmp_path_factory.mktemp("frames"), ImageInput.parse(SAID)
    assert image is not None
    data = {**arrays, **{f"x_{half}": image.normalised(f) for half, f in frames.items()}}
    return edgeprune.fit(
        source,
        input_shape=SHAPE,
        image_input=SAID,
        device=f"fake:{folder / 'board'}",
        latency="70%",
        data=data,
        epochs=1,
        baseline=False,
        out=folder / "run",
        **few,
    )


def test_the_accuracy_is_that_of_the_frames(run, arrays, frames) -> None:
    image = ImageInput.parse(SAID)
    assert image is not None
    with torch.no_grad():
        labels = run.module(image.normalised(frames["test"])).argmax(1)
    assert run.accuracy == pytest.approx((labels == arrays["y_test"]).float().mean().item())
    with edgeprune.open_device(run.result.device_url) as board:
        (logits,) = edgeprune.run(frames["test"], board)
        assert (logits.argmax(1) == labels.numpy()).all()
        with pytest.raises(BadInputError, match="of type uint8"):
            edgeprune.run(arrays["x_test"], board)


def test_the_first_kernel_was_profiled_and_predicted(run) -> None:
    assert run.result.dense.manifest.kernels[0].schedule_source == "profile"
    assert "x.image" in run.result.predicted_kernels_ms


def test_a_program_of_the_run_takes_frames_again(run, source, tmp_path, few) -> None:
    folder, said = run.paths["bundle"].parent, {"factory": source, "store": few["store"]}
    again = edgeprune.compile(folder, out=tmp_path / "again", **said)
    assert again.manifest.inputs == edgeprune.load_run(folder).bundle.manifest.inputs
    assert again.manifest.inputs[0].image.order == "bgr"
    otherwise = edgeprune.compile(folder, out=tmp_path / "rgb", image_input="rgb", **said)
    assert (otherwise.manifest.inputs[0].image.order, otherwise.manifest.inputs[0].image.mean) == ("rgb", (0.0,))


def test_a_run_is_resumed_with_the_frames_that_it_was_begun_with(run, source, few) -> None:
    folder = run.paths["bundle"].parent
    asked = {"input_shape": SHAPE, "latency": "70%", "criterion": "l2", "epochs": 1, "out": folder, **few}
    with pytest.raises(UsageError, match="image_input: then bgr"):
        edgeprune.fit(source, device=f"fake:{folder.parent / 'board'}", resume=True, **asked)


def test_data_that_are_no_frames_are_refused_before_anything_is_measured(source, arrays, few, tmp_path) -> None:
    asked = {"input_shape": SHAPE, "device": f"fake:{tmp_path / 'b'}", "latency": "70%", "out": tmp_path / "r", **few}
    with pytest.raises(BadInputError, match="no camera frames of mean") as caught:
        edgeprune.fit(source, image_input=SAID, data=arrays, **asked)
    assert "data=nearest" in caught.value.hint
    assert not (tmp_path / "r").exists()


def test_what_is_said_wrongly_ends_the_command(source, tmp_path, capsys) -> None:
    code = main(["compile", source, "--input-shape", "1x3x8x8", "--image-input", "gbr", "--out", str(tmp_path / "b")])
    assert code == 2
    assert "bgr:imagenet" in capsys.readouterr().err
