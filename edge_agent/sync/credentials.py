"""What the coordinator made this site to be, kept on the disk: credentials and the last site configuration."""

from pathlib import Path
from typing import Self

import msgspec

from edge_agent.model.files import CREDENTIALS_FILE, write_private
from edge_agent.sync.keys import Keys
from protos.settings import SettingsError
from protos.vpp.v1.site_pb2 import Credentials, SiteConfiguration

CONFIGURATION_FILE = "site-configuration.bin"


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    received_ms: int
    client_key: str  # Keys.client_digest of the key they were issued for
    credentials: bytes  # serialised vpp.v1.Credentials, base64 in the file
    certificate_received_ms: int = 0
    certificate_life_ms: int = 0


class HeldCredentials(msgspec.Struct, frozen=True):
    """Credentials and since when they are held.

    Instants are of this gateway's clock, lives are as the coordinator told them: a clock that is off by days neither
    lets credentials run out unnoticed nor renews them without end.
    """

    received_ms: int  # UTC, milliseconds since 1970
    message: Credentials
    certificate_received_ms: int
    certificate_life_ms: int

    @classmethod
    def received(cls, now_ms: int, message: Credentials, before: "HeldCredentials | None" = None) -> Self:
        """What the coordinator answered; certificate and first frame of `before` go on where the answer brings none."""
        if before is None:
            return cls(now_ms, message, now_ms, message.certificate_expires_ms - message.issued_ms)
        kept = Credentials()
        kept.CopyFrom(message)
        kept.first_seq = max(message.first_seq, before.message.first_seq)
        if message.certificate:
            return cls(now_ms, kept, now_ms, message.certificate_expires_ms - message.issued_ms)
        kept.certificate = before.message.certificate
        kept.certificate_expires_ms = before.message.certificate_expires_ms
        return cls(now_ms, kept, before.certificate_received_ms, before.certificate_life_ms)

    @property
    def renew_at_ms(self) -> int:
        """UTC instant at which two thirds of the broker credentials' life are over."""
        return self.received_ms + (self.message.expires_ms - (self.message.issued_ms or self.received_ms)) * 2 // 3

    def certificate_due(self, now_ms: int) -> bool:
        """Whether two thirds of the certificate's life are over, or its authority is being retired."""
        return self.message.certificate_due or (
            now_ms >= self.certificate_received_ms + self.certificate_life_ms * 2 // 3
        )

    def certificate_over(self, now_ms: int) -> bool:
        """Whether the certificate has run out, as far as this gateway's clock knows."""
        return now_ms >= self.certificate_received_ms + self.certificate_life_ms


class CredentialStore:
    """The files that hold them. A file is replaced whole, so a crash leaves the old or the new credentials."""

    def __init__(self, folder: Path) -> None:
        self._credentials = folder / CREDENTIALS_FILE
        self._configuration = folder / CONFIGURATION_FILE

    def load(self, site: str, keys: Keys) -> HeldCredentials | None:
        """The credentials of `site`; None before enrolment. Raises SettingsError if they are not its own."""
        path = self._credentials
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
            message = Credentials.FromString(stored.credentials)
            held = HeldCredentials(
                stored.received_ms, message, stored.certificate_received_ms, stored.certificate_life_ms
            )
        except FileNotFoundError:
            return None
        except Exception as error:  # of JSON, base64, protobuf: one cause, one remedy
            raise SettingsError(f"{path}: is damaged ({error}); remove it and enrol with a new claim file") from error
        if held.message.site != site:
            raise SettingsError(
                f"{path}: belongs to site {held.message.site!r}, but the configuration says site = {site!r}; give each "
                "site a data_dir of its own"
            )
        if stored.client_key != keys.client_digest:
            raise SettingsError(
                f"{path}: was issued for another key than the one beside it; restore the key, or remove this file and "
                "enrol with a new claim file"
            )
        return held

    def save(self, held: HeldCredentials, keys: Keys) -> None:
        stored = _Stored(
            held.received_ms,
            keys.client_digest,
            held.message.SerializeToString(),
            held.certificate_received_ms,
            held.certificate_life_ms,
        )
        write_private(self._credentials, msgspec.json.encode(stored))

    def load_configuration(self) -> SiteConfiguration | None:
        """What the coordinator said last; None if it never did, or the file is damaged."""
        try:
            return SiteConfiguration.FromString(self._configuration.read_bytes())
        except Exception:  # missing or damaged alike: the coordinator says it again at every start
            return None

    def save_configuration(self, configuration: SiteConfiguration) -> None:
        write_private(self._configuration, configuration.SerializeToString())
