"""The claim file: what `vpp-cloud site add` writes, and an installer puts beside the agent's configuration."""

import hashlib
import ssl
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from protos.settings import SettingsError

Address = Annotated[str, msgspec.Meta(pattern=r"^[^:\s]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$")]


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A one-time right to enrol as a site."""

    site: str
    enrolment: Address  # host:port of the enrolment service
    token: Annotated[str, msgspec.Meta(min_length=1)]
    ca_certificates: str  # PEM; the coordinator must prove itself by these

    @property
    def digest(self) -> str:
        """SHA-256 of the token, hex: what may be kept of it."""
        return hashlib.sha256(self.token.encode()).hexdigest()


def load_claim(path: Path, site: str) -> Claim:
    """The claim for `site` in the file at `path`. Raises SettingsError."""
    again = f"make one with `vpp-cloud site add {site} --claim-file {path.name}` and put it there"
    try:
        claim = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Claim)
    except OSError as error:
        raise SettingsError(
            f"claim file {path}: cannot be read ({error.strerror}), and this agent has not enrolled yet; {again}"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise SettingsError(f"claim file {path}: is damaged ({error}); {again}") from error
    if claim.site != site:
        raise SettingsError(
            f"claim file {path}: is for site {claim.site!r}, but the configuration says site = {site!r}; use the claim "
            "file of this site"
        )
    try:
        ssl.create_default_context(cadata=claim.ca_certificates)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"claim file {path}: ca_certificates holds no PEM certificate ({error}); {again}"
        ) from error
    return claim
