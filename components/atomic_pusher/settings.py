"""Settings of the Pusher."""

from pydantic import Field

from modules.common.settings import Settings


class PushSettings(Settings):
    """The copy of a blessed model to the folder that is served."""

    signing_key: str | None = Field(
        None,
        description="Address of an Ed25519 private key in PEM, local or gs://, that signs the manifest of each pushed "
        "model. Without it the manifest has hashes and no signature.",
    )
