"""The coordinator's word that what the site is to be has changed: asked for at once instead of ten minutes later.

All that a notice can do is to have the site call Configure, over its own TLS; believed is only what the coordinator
signed for this very site, once, and lately, so that a bad broker cannot keep the site calling.
"""

import logging
from collections.abc import Callable

from google.protobuf.message import DecodeError

from edge_agent.model.clock import Clock
from edge_agent.sync.intents import CLOCK_TOLERANCE_MS, CommandKeys
from protos import subjects
from protos.vpp.v1.site_pb2 import ConfigureNow, SignedConfigureNow

log = logging.getLogger(__name__)


class NoticeDoor:
    """Where notices come in."""

    def __init__(self, *, site: str, keys: CommandKeys, clock: Clock, asked: Callable[[], None]) -> None:
        """asked: called for a notice that is believed."""
        self.keys = keys
        self.clock_error_ms = CLOCK_TOLERANCE_MS
        self._site = site
        self._clock = clock
        self._asked = asked
        self._newest_ms = 0
        self._told = ""

    def receive(self, data: bytes) -> None:
        """Takes the bytes that came on the site's subject of notices."""
        try:
            signed = SignedConfigureNow.FromString(data)
            notice = ConfigureNow.FromString(signed.notice)
        except DecodeError:
            self._refuse("it is no signed notice")
            return
        text = subjects.CONFIGURE_NOW_SIGNED_AS + signed.notice
        if forged := self.keys.verify(text, signature=signed.signature, key_id=signed.key_id):
            self._refuse(forged)
        elif notice.site != self._site:
            self._refuse(f"it is for site {notice.site!r}")
        elif notice.issued_ms <= self._newest_ms:
            self._refuse("it is not newer than the last one")
        elif self._clock.utc_ms() + self.clock_error_ms >= notice.expires_ms:
            self._refuse(f"it had expired at {notice.expires_ms} ms UTC")
        else:
            self._newest_ms, self._told = notice.issued_ms, ""
            self._asked()

    def _refuse(self, reason: str) -> None:
        """Logs each reason once, not each copy: a refused notice costs nothing but time."""
        if reason != self._told:
            self._told = reason
            log.warning("notice of a new configuration refused: %s", reason)
