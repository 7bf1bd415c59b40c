"""Files of inputs and outputs: arrays of NumPy, raw values, pictures for a program that takes camera frames."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.manifest import TensorEntry
from edgeprune.errors import BadInputError, UsageError
from edgeprune.files import write_whole

_RAW = (".bin", ".raw")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
"""Modes of Pillow that 8 bits a channel hold."""


def read_inputs(paths: Sequence[Path], ports: Sequence[TensorEntry], *, resize: bool = False) -> list[NDArray[Any]]:
    """One array of stacked samples for each input.

    Args:
        paths: a file for each input, or one ``.npz`` for all, by name or in order. ``.npy``; ``.bin`` or ``.raw``
            (values of the program's type); anything else is a picture.
        resize: pictures of another size than the frame are brought to its size; else they are refused.

    Raises:
        UsageError: another number of files than inputs. BadInputError: a file that holds something else.
    """
    if len(paths) == 1 and paths[0].suffix.lower() == ".npz":
        return _archive(paths[0], ports)
    if len(paths) != len(ports):
        raise UsageError(f"the network has {len(ports)} inputs", hint="give a file for each, or one .npz file for all")
    return [_one(path, port, resize) for path, port in zip(paths, ports, strict=True)]


def write_outputs(paths: Sequence[Path], ports: Sequence[TensorEntry], arrays: Sequence[NDArray[Any]]) -> None:
    """The arrays as files: ``.npz`` for all of them, by name, or one file for each: ``.bin``, ``.raw``, else ``.npy``.

    Raises:
        UsageError: another number of files than outputs.
    """
    if len(paths) == 1 and paths[0].suffix.lower() == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **{port.name: array for port, array in zip(ports, arrays, strict=True)})  # type: ignore[arg-type]
        write_whole(paths[0], buffer.getvalue())
        return
    if len(paths) != len(ports):
        raise UsageError(f"the network has {len(ports)} outputs", hint="give a file for each, or one .npz file for all")
    for path, array in zip(paths, arrays, strict=True):
        buffer = io.BytesIO()
        if path.suffix.lower() in _RAW:
            buffer.write(array.tobytes())
        else:
            np.save(buffer, array)
        write_whole(path, buffer.getvalue())


def _one(path: Path, port: TensorEntry, resize: bool) -> NDArray[Any]:
    if path.suffix.lower() == ".npy":
        return _numbers(_loaded(path), path)
    if path.suffix.lower() in _RAW:
        return _raw(path, port)
    return picture(path, port, resize=resize)


def picture(path: Path, port: TensorEntry, *, resize: bool = False) -> NDArray[np.uint8]:
    """A picture as a frame (1, H, W, C) of ``port``: upright, its channels in the order that the program takes.

    Raises:
        BadInputError: no picture of 8 bits; ``port`` takes no frame of one picture; another size, and not ``resize``.
    """
    from PIL import Image, ImageOps

    if port.image is None or port.shape[0] != 1:
        raise BadInputError(
            f"{path} is no file of arrays, and input {port.name!r} takes no picture, but {port.dtype} {port.shape}",
            hint="give a .npy file; compile with --image-input to give pictures",
        )
    _, height, width, channels = port.shape
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode not in _EIGHT_BITS:
                raise ValueError(f"its pixels are of mode {image.mode}, not of 8 bits")
            image = image.convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise BadInputError(f"{path} is no picture: {e}", hint="give a .png or .jpg file, or an array as .npy") from e
    if image.size != (width, height):
        if not resize:
            raise BadInputError(
                f"{path} is {image.width} x {image.height} pixels, the program takes {width} x {height}",
                hint="resize brings it to that size, whatever its shape",
                picture=image.size,
                frame=(width, height),
            )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8).reshape(1, height, width, channels)
    return np.ascontiguousarray(pixels[..., ::-1] if port.image.order == "bgr" else pixels)


def _archive(path: Path, ports: Sequence[TensorEntry]) -> list[NDArray[Any]]:
    with _loaded(path) as arrays:
        names = list(arrays.files)
        wanted = [p.name for p in ports]
        if set(names) != set(wanted):
            if len(names) != len(wanted):
                raise UsageError(
                    f"{path} holds {names}, the network takes {wanted}", hint="give an array for each input"
                )
            wanted = names
        return [_numbers(arrays[name], path) for name in wanted]


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise BadInputError(f"{path} is not a {path.suffix} file: {e}", hint="write it with numpy.save") from e


def _numbers(array: Any, path: Path) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise BadInputError(f"{path} does not hold one array of real numbers", hint="write it with numpy.save")
    return array


def _raw(path: Path, port: TensorEntry) -> NDArray[Any]:
    try:
        values = np.fromfile(path, port.dtype)
        return values.reshape(-1, *port.shape[1:])
    except (OSError, ValueError) as e:
        raise BadInputError(
            f"{path} does not hold samples of {port.dtype} {port.shape}: {e}",
            hint="raw files hold the values one behind the other, of the type of the input",
        ) from e
