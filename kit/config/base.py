"""What all sections of the settings share."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of the settings: immutable, and an unknown key is an error."""

    # validate_default: a float's default 0 must become 0.0, or a config that is read back has another fingerprint
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
