"""The one table of NATS subjects and streams.

| subject                         | who publishes | what                                   | kept in               |
|---------------------------------|---------------|----------------------------------------|-----------------------|
| `vpp.tel.<partition>.<site>`    | the site      | vpp.v1.Batch of telemetry frames       | stream per group, TEL_<g> |
| `vpp.tel.<partition>.<site>`    | a concentrator under its own name | vpp.v1.Batch of sites behind it | likewise |
| `vpp.evt.<partition>.<site>`    | the site      | vpp.v1.Event                           | stream REPORT         |
| `vpp.ack.<partition>.<site>`    | the site      | vpp.v1.Acknowledgement                 | stream REPORT         |
| `vpp.sup.<partition>.<site>`    | the site      | vpp.v1.SupplyFunction, last value a subject | stream SUPPLY    |
| `vpp.intent.<site>.<kind>`      | coordinator   | vpp.v1.SignedIntent, last value a subject | stream INTENT      |
| `vpp.group.<group>.<kind>`      | coordinator   | vpp.v1.SignedBroadcast                 | nothing               |
| `_INBOX_<site>.configure`       | coordinator   | vpp.v1.SignedConfigureNow              | nothing               |
| `vpp.fleet.steer`               | coordinator   | vpp.v1.Steer; ingest answers vpp.v1.Share | nothing            |

A site's partition is fnv1a32(site) % 64, the broker's own function; "<partition>.<site>" is fixed in the site's
credentials at enrolment (tag `pt`), so a site can neither choose its partition nor speak for another site.
A concentrator is a site of the registry, and others are said to be behind it: its credentials carry a tag for each of
their partitions, and ingest takes from it frames of those sites alone, each in its own partition.
"""

import re
from typing import Final

PARTITIONS: Final = 64
# The kind, and so the subject, that a body of vpp.v1.Intent travels under, by its field. A site that comes back reads
# the kinds in this order: what a stop is about before what it would refuse.
INTENT_KIND_OF_BODY: Final = {
    "stop": "stop",
    "schedule": "schedule",
    "arm": "service",
    "release": "service",
    "envelope": "envelope",
    "setpoint": "setpoint",
    "price": "price",
}
INTENT_KINDS: Final = tuple(dict.fromkeys(INTENT_KIND_OF_BODY.values()))
BROADCAST_KINDS: Final = ("price", "regulation", "stop")  # each the field of vpp.v1.Broadcast's body too
BROADCAST_SIGNED_AS: Final = b"vpp.v1.Broadcast\0"  # goes before the bytes that are signed
CONFIGURE_NOW_SIGNED_AS: Final = b"vpp.v1.ConfigureNow\0"
INTENT_STREAM: Final = "INTENT"
REPORT_STREAM: Final = "REPORT"
REPORT_SUBJECTS: Final = ("vpp.evt.*.*", "vpp.ack.*.*")
SUPPLY_STREAM: Final = "SUPPLY"
SUPPLY_SUBJECTS: Final = ("vpp.sup.*.*",)
STEER: Final = "vpp.fleet.steer"
INTENT_SUBJECTS: Final = ("vpp.intent.*.*",)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def check_name(name: str, what: str) -> str:
    """`name` itself; ValueError if it could be read as a wildcard, several tokens or a path."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r}: use 1 to 63 of a-z 0-9 _ -, beginning with a letter or digit")
    return name


def partition(site: str) -> int:
    """The site's partition, 0..63: FNV-1a 32 bit modulo 64, as nats-server's partition(64, 1)."""
    value = 2166136261
    for byte in site.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value % PARTITIONS


def partition_token(site: str) -> str:
    """ "<partition>.<site>": the last two tokens of the site's own subjects."""
    return f"{partition(check_name(site, 'site'))}.{site}"


def telemetry(token: str) -> str:
    return f"vpp.tel.{token}"


def event(token: str) -> str:
    return f"vpp.evt.{token}"


def acknowledgement(token: str) -> str:
    return f"vpp.ack.{token}"


def supply_function(token: str) -> str:
    return f"vpp.sup.{token}"


def supply_functions(partition: int) -> str:
    """Those of all sites of a partition."""
    return f"vpp.sup.{partition}.*"


def broadcast(group: str, kind: str) -> str:
    if kind not in BROADCAST_KINDS:
        raise ValueError(f"broadcast kind {kind!r}: one of {', '.join(BROADCAST_KINDS)}")
    return f"vpp.group.{check_name(group, 'group')}.{kind}"


def broadcast_to_all(kind: str) -> str:
    """What of a kind is said to any group."""
    return f"vpp.group.*.{kind}"


def broadcasts(group: str) -> str:
    """Everything that is said to a group."""
    return f"vpp.group.{check_name(group, 'group')}.>"


def intent(site: str, kind: str) -> str:
    if kind not in INTENT_KINDS:
        raise ValueError(f"intent kind {kind!r}: one of {', '.join(INTENT_KINDS)}")
    return f"vpp.intent.{check_name(site, 'site')}.{kind}"


def latest_intent(site: str, kind: str) -> str:
    """Where a site asks the broker for its current intent (JetStream direct get)."""
    return f"$JS.API.DIRECT.GET.{INTENT_STREAM}.{intent(site, kind)}"


def telemetry_stream(group: int) -> str:
    return f"TEL_{group}"


def stream_partitions(group: int, groups: int) -> range:
    """Partitions of one telemetry stream: they are dealt to `groups` streams in contiguous ranges."""
    return range(group * PARTITIONS // groups, (group + 1) * PARTITIONS // groups)


def telemetry_stream_subjects(group: int, groups: int) -> list[str]:
    return [f"vpp.tel.{p}.*" for p in stream_partitions(group, groups)]


def inbox_prefix(site: str) -> str:
    return f"_INBOX_{check_name(site, 'site')}"


def configure_now(site: str) -> str:
    """Where a site is told that what it is to be has changed; within what every site's credentials let it hear."""
    return f"{inbox_prefix(site)}.configure"


def site_of(subject: str) -> str:
    """The site a telemetry, event or acknowledgement subject belongs to: its last token."""
    return subject.rsplit(".", 1)[1]


def device_permissions() -> dict[str, dict[str, list[str]]]:
    """The template of the scoped signing key: what a site's credentials allow, in the broker's own terms."""
    return {
        "pub": {
            "allow": [
                "vpp.tel.{{tag(pt)}}",
                "vpp.evt.{{tag(pt)}}",
                "vpp.ack.{{tag(pt)}}",
                "vpp.sup.{{tag(pt)}}",
                *(f"$JS.API.DIRECT.GET.{INTENT_STREAM}.vpp.intent.{{{{name()}}}}.{kind}" for kind in INTENT_KINDS),
            ]
        },
        "sub": {"allow": ["vpp.intent.{{name()}}.*", "vpp.group.{{tag(grp)}}.>", "_INBOX_{{name()}}.>"]},
    }
