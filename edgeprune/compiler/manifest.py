"""manifest.json: what a bundle is, checked with pydantic, hashed file by file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from edgeprune.board.element_types import SIZES
from edgeprune.compiler.elf import Needs
from edgeprune.errors import BadInputError, BundleError, VerificationError
from edgeprune.models.image_input import ImageInput
from edgeprune.models.ranges import InputRange

MANIFEST = "manifest.json"
SCHEMA = "edgeprune.bundle/1"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """One file of the bundle. ``deploy``: goes to the board; the rest stays with the engineer.

    ``needs``: what a program or library asks of the board; None for anything else.
    """

    sha256: str
    bytes: int
    role: str  # program, library, header, golden_input, golden_output
    deploy: bool
    executable: bool = False
    needs: Needs | None = None


class ImageEntry(_Strict):
    """How the program makes of a frame what the network takes: ``(frame / 255 - mean) / std`` of each channel.

    ``order``: of the frame's channels; ``mean`` and ``std`` are in that of the network, ``rgb``.
    """

    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, image: ImageInput) -> ImageEntry:
        return cls(order=image.order, mean=image.mean, std=image.std)


class RangeEntry(_Strict):
    """Values of an input: ``minimum`` and ``maximum`` over ``samples`` samples of the data; finite values below ``low``
    or above ``high`` are anomalous."""

    minimum: float
    maximum: float
    samples: int
    low: float
    high: float

    @classmethod
    def of(cls, found: InputRange) -> RangeEntry:
        return cls(**found.to_json(), low=found.low, high=found.high)

    @property
    def seen(self) -> InputRange:
        return InputRange(self.minimum, self.maximum, self.samples)


class TensorEntry(_Strict):
    """An input or output: its element type by NumPy's name, what is done to a frame, (N, H, W, C) of uint8, and which
    values the data had, where there were any."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    image: ImageEntry | None = None
    range: RangeEntry | None = None

    @field_validator("dtype")
    @classmethod
    def _known(cls, dtype: str) -> str:
        if dtype not in SIZES:
            raise ValueError(f"there is no element type {dtype!r}; the types are {', '.join(SIZES)}")
        return dtype

    def given(self, values: Any) -> NDArray[Any]:
        """Values as the program takes them: in row-major order, of its type. Real numbers are converted.

        A single frame (H, W, C) becomes one of a batch of one.

        Raises:
            BadInputError: values that its integers or truth values do not hold.
        """
        array = np.asarray(values)
        if self.image is not None and array.ndim == len(self.shape) - 1:
            array = array[np.newaxis]
        with np.errstate(invalid="ignore", over="ignore"):
            converted: NDArray[Any] = np.asarray(array, self.dtype, order="C")
        if not self.dtype.startswith("float") and not np.array_equal(converted, array):
            raise BadInputError(
                f"input {self.name!r} is of type {self.dtype}, which does not hold the given {array.dtype}",
                hint="a frame is uint8, 0 to 255, and not normalised" if self.image else "convert it first",
            )
        return converted

    def read(self, data: bytes, samples: int) -> NDArray[Any]:
        """The array of ``samples`` results, stacked along the first dimension, from what the program wrote."""
        return np.frombuffer(data, self.dtype).reshape(samples * self.shape[0], *self.shape[1:])


class Golden(_Strict):
    """Files of one sample: an array for each input, and for each output what torch gives for them.
    The board must agree within ``|a - b| <= atol + rtol * max|b|``."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rtol: float
    atol: float


class Memory(_Strict):
    """Bytes. ``peak_ram`` = arena + scratch + inputs and outputs, what the runner allocates."""

    arena: int
    peak_ram: int
    weights: int
    flash: int


class CodeEntry(_Strict):
    """A constant without its zeros: ``bytes`` in the file for ``dense_bytes``, which it takes decoded."""

    name: str
    elements: int
    zeros: int
    dense_bytes: int
    bytes: int


class Compressed(_Strict):
    """What is stored without its zeros. ``dense_flash``: bytes of the same program with all constants dense;
    ``decoded``: bytes of RAM that the constants take when they are decoded.
    """

    constants: tuple[CodeEntry, ...]
    dense_flash: int
    decoded: int


class KernelEntry(_Strict):
    node: str
    symbol: str
    spec: dict[str, Any]
    schedule: dict[str, Any]
    schedule_source: str  # profile, transfer, default


class Manifest(_Strict):
    """The deployable folder's table of contents and provenance."""

    schema_: str = SCHEMA
    target: str
    target_hash: str
    program: str  # file name of the native program
    files: dict[str, FileEntry]
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]
    golden: Golden
    memory: Memory
    threads: int
    kernels: tuple[KernelEntry, ...]
    versions: dict[str, str]
    provenance: dict[str, Any]
    budget: dict[str, Any]  # latency_ms, flash_bytes, and the promise they come from; only what was asked for
    inspects: bool = False  # whether the program looks at its inputs; earlier ones do not
    compressed: Compressed | None = None

    def to_json(self) -> dict[str, Any]:
        data = self.model_dump(mode="json")
        data["schema"] = data.pop("schema_")
        for entry in data["files"].values():
            if entry["needs"] is None:  # as bundles without it were written, whose name is their hash
                del entry["needs"]
        for port in (*data["inputs"], *data["outputs"]):
            for known in ("image", "range"):
                if port[known] is None:
                    del port[known]
        if not data["inspects"]:
            del data["inspects"]
        if data["compressed"] is None:
            del data["compressed"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Manifest:
        """Raises ValueError for what is no manifest of this schema."""
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise ValueError(f"it is not a {SCHEMA} manifest")
        return cls.model_validate({**{k: v for k, v in data.items() if k != "schema"}, "schema_": SCHEMA})

    def to_text(self) -> str:
        return json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"

    @property
    def saved_bytes(self) -> int:
        """By how much the program's file is smaller than with dense constants."""
        return 0 if self.compressed is None else self.compressed.dense_flash - self.memory.flash

    @property
    def stored_share(self) -> float:
        """Of the bytes of all constants those that the file has."""
        codes = () if self.compressed is None else self.compressed.constants
        dense = self.memory.weights + sum(c.dense_bytes - c.bytes for c in codes)
        return self.memory.weights / dense if dense else 1.0

    def compressed_json(self) -> dict[str, int] | None:
        """What is stored without its zeros, in three numbers; None if nothing is."""
        if self.compressed is None:
            return None
        return {
            "constants": len(self.compressed.constants),
            "saved_bytes": self.saved_bytes,
            "decoded_bytes": self.compressed.decoded,
        }

    @property
    def release_id(self) -> str:
        """sha256 of the manifest text: names a release on a device."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(bundle: Path, *, verify: bool = True) -> Manifest:
    """Read and check a bundle folder.

    Raises:
        BundleError: no manifest, or one that does not check, or one that names files elsewhere.
        VerificationError: ``verify`` and a file is missing or its hash differs.
    """
    path = bundle / MANIFEST
    try:
        manifest = Manifest.from_json(json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{bundle} holds no {MANIFEST}", hint="give the folder that compile wrote") from None
    except ValueError as e:  # of JSON, of UTF-8, of the model
        raise BundleError(f"{path} cannot be read: {e}", hint="compile the model again") from e
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".."):
            raise BundleError(f"{path} names a file outside the bundle: {name!r}", hint="compile the model again")
    if verify:
        for name, entry in manifest.files.items():
            file = bundle / name
            actual = sha256_file(file) if file.is_file() else "missing"
            if actual != entry.sha256:
                raise VerificationError(
                    f"{file} is not the file the manifest describes",
                    hint="compile the model again",
                    expected=entry.sha256,
                    actual=actual,
                )
    return manifest
