"""The coordinator's word, kept: what is in force now, what comes, and what became of it.

All kinds live side by side. Of one kind the newest sequence that has begun is in force; an older one ends when a newer
begins, and each ends at its expiry, whether anybody is there to say so or not. A stop order ends all but the limits at
the grid connection, and is kept elsewhere: it has no end of its own.
"""

from collections.abc import Callable
from typing import TypeVar

from edge_agent.model.intent import (
    ArmService,
    Body,
    Envelope,
    FollowPrice,
    Intent,
    PowerSetpoint,
    Release,
    Schedule,
    StopOrder,
)
from edge_agent.runtime.messages import AckState

_B = TypeVar("_B", bound=Body)

Acknowledge = Callable[[str, int, AckState, str], None]


class Intents:
    """All intents of the site. `advance` once a cycle, then read what is in force."""

    def __init__(
        self,
        acknowledge: Acknowledge,
        ended: Callable[[Intent, AckState], None],
        impossible: Callable[[Intent], str],
        stop: Callable[[StopOrder], None],
    ) -> None:
        """
        Args:
            acknowledge: tells what became of an intent: kind, sequence, state, reason.
            ended: called once for each intent that was in force and no longer is.
            impossible: why an intent that would begin now cannot be carried out; empty where it can.
            stop: takes a stop order to where it is kept.
        """
        self._acknowledge = acknowledge
        self._ended = ended
        self._impossible = impossible
        self._stop = stop
        self._newest: dict[str, int] = {}
        self._coming: list[Intent] = []  # by sequence
        self._in_force: dict[str, Intent] = {}

    @property
    def schedule(self) -> Schedule | None:
        """The schedule in force."""
        return self._body("schedule", Schedule)

    @property
    def service(self) -> ArmService | None:
        """The service armed now."""
        return self._body("service", ArmService)

    @property
    def envelope(self) -> Envelope | None:
        """The grid operator's limits in force."""
        return self._body("envelope", Envelope)

    @property
    def setpoint(self) -> PowerSetpoint | None:
        """The addressed setpoint in force."""
        return self._body("setpoint", PowerSetpoint)

    @property
    def price(self) -> FollowPrice | None:
        """Whose price is followed now."""
        return self._body("price", FollowPrice)

    def _body(self, kind: str, of: type[_B]) -> _B | None:
        intent = self._in_force.get(kind)
        return intent.body if intent is not None and isinstance(intent.body, of) else None

    def in_force(self) -> list[Intent]:
        return list(self._in_force.values())

    def offer(self, intent: Intent) -> None:
        """Takes an intent. What is not newer than what came before is a repetition (sync restarted) and is ignored."""
        if intent.sequence <= self._newest.get(intent.kind, -1):
            return
        self._newest[intent.kind] = intent.sequence
        self._coming.append(intent)
        self._acknowledge(intent.kind, intent.sequence, AckState.ACCEPTED, "")

    def keep_time(self, ahead_ms: float) -> None:
        """The coordinator's UTC less the monotonic clock is this: what is held begins and ends by it."""
        self._coming = [intent.by(ahead_ms) for intent in self._coming]
        self._in_force = {kind: intent.by(ahead_ms) for kind, intent in self._in_force.items()}

    def advance(self, now_s: float) -> None:
        """Begins and ends what is due."""
        for kind, intent in list(self._in_force.items()):
            if now_s >= intent.ends_s:
                self._end(kind, AckState.EXPIRED, "")
        if not self._coming:
            return
        for intent in list(self._coming):
            if now_s >= intent.ends_s:
                self._coming.remove(intent)
                self._acknowledge(intent.kind, intent.sequence, AckState.EXPIRED, "expired before it was in force")
        for intent in [i for i in self._coming if now_s >= i.starts_s]:
            if intent in self._coming:
                self._begin(intent)

    def end_all(self, reason: str) -> None:
        """Ends what is in force and what comes, the limits at the grid connection excepted."""
        for kind in [kind for kind in self._in_force if kind != "envelope"]:
            self._end(kind, AckState.RELEASED, reason)
        for intent in [i for i in self._coming if not isinstance(i.body, Envelope | StopOrder)]:
            self._coming.remove(intent)
            self._acknowledge(intent.kind, intent.sequence, AckState.RELEASED, reason)

    def _begin(self, intent: Intent) -> None:
        self._coming.remove(intent)
        match intent.body:
            case Release():
                self._release(intent, intent.body)
            case StopOrder():
                self._acknowledge(intent.kind, intent.sequence, AckState.ACTIVE, "")
                self._stop(intent.body)
            case _:
                if reason := self._impossible(intent):
                    self._acknowledge(intent.kind, intent.sequence, AckState.REFUSED, reason)
                    return
                for older in [i for i in self._coming if i.kind == intent.kind and i.sequence < intent.sequence]:
                    self._coming.remove(older)
                    self._acknowledge(older.kind, older.sequence, AckState.RELEASED, f"replaced by {intent.sequence}")
                self._end(intent.kind, AckState.RELEASED, f"replaced by {intent.sequence}")
                self._in_force[intent.kind] = intent
                self._acknowledge(intent.kind, intent.sequence, AckState.ACTIVE, "")

    def _release(self, intent: Intent, release: Release) -> None:
        def meant(other: Intent) -> bool:
            return isinstance(other.body, ArmService) and release.award_id in ("", other.body.award_id)

        reason = f"released by {intent.sequence}"
        found = False
        for older in [i for i in self._coming if i.sequence < intent.sequence and meant(i)]:
            self._coming.remove(older)
            self._acknowledge(older.kind, older.sequence, AckState.RELEASED, reason)
            found = True
        armed = self._in_force.get(intent.kind)
        if armed is not None and meant(armed):
            self._end(intent.kind, AckState.RELEASED, reason)
            found = True
        self._acknowledge(intent.kind, intent.sequence, AckState.ACTIVE, "" if found else "nothing of that was armed")

    def _end(self, kind: str, state: AckState, reason: str) -> None:
        intent = self._in_force.pop(kind, None)
        if intent is not None:
            self._acknowledge(intent.kind, intent.sequence, state, reason)
            self._ended(intent, state)
