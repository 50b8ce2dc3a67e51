"""Who may do what: roles, the permissions they come to, and the one who asks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cloud.model.records import LogInSession


class Permission(StrEnum):
    """What a page or call may need."""

    VIEW = "view"  # see the fleet, events, settlements
    DISPATCH = "dispatch"  # ask sites for power: activations, setpoints, envelopes
    STOP = "stop"  # send the emergency stop, and lift it
    TRADE = "trade"  # offers, products, what is sold
    APPROVE = "approve"  # be the second person
    SITES = "sites"  # add, claim, configure and revoke sites
    LIMITS = "limits"  # change what the guards allow
    PEOPLE = "people"  # accounts, roles and tokens of others
    AUDIT = "audit"  # read who did what


ROLES: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        "viewer": frozenset({Permission.VIEW}),
        "operator": frozenset({Permission.VIEW, Permission.DISPATCH, Permission.STOP, Permission.APPROVE}),
        "market": frozenset({Permission.VIEW, Permission.TRADE, Permission.APPROVE}),
        "admin": frozenset(Permission),
    }
)
# A program is no second person, and makes no accounts.
TOKEN_PERMISSIONS: Final = frozenset(Permission) - {Permission.APPROVE, Permission.PEOPLE}


def check_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, sorted, each once. ValueError: none, or one that there is not."""
    found = tuple(sorted(set(roles)))
    unknown = [role for role in found if role not in ROLES]
    if unknown or not found:
        what = f"role {unknown[0]!r} is unknown" if unknown else "no role is given"
        raise ValueError(f"{what}: use one or more of {', '.join(ROLES)}")
    return found


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The permissions of a token, sorted, each once. ValueError: none, or one that no token may have."""
    found = tuple(sorted(set(scopes)))
    refused = [scope for scope in found if scope not in TOKEN_PERMISSIONS]
    if refused or not found:
        what = f"scope {refused[0]!r} is not for a token" if refused else "no scope is given"
        raise ValueError(f"{what}: use one or more of {', '.join(sorted(TOKEN_PERMISSIONS))}")
    return found


def permissions(roles: Iterable[str]) -> frozenset[Permission]:
    """What these roles may do together."""
    return frozenset().union(*(ROLES[role] for role in roles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever makes a request: a person's session, or a program's token."""

    actor: str  # as the audit log has it: "user:ada", "token:grafana"
    name: str
    permissions: frozenset[Permission]
    session: LogInSession | None = None
    second_factor_missing: bool = False  # its roles come into force with a second factor

    def may(self, permission: str) -> bool:
        return permission in self.permissions
