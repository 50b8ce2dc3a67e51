from cloud.tests.api.conftest import lenient, operator, program, visitor, welcome, world
from cloud.tests.gateway.conftest import broker, gateway, keyring, ledger_place, trust

__all__ = [
    "broker",
    "gateway",
    "keyring",
    "ledger_place",
    "lenient",
    "operator",
    "program",
    "trust",
    "visitor",
    "welcome",
    "world",
]
