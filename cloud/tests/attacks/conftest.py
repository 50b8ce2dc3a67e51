from cloud.tests.gateway.conftest import broker, keyring, trust

__all__ = ["broker", "keyring", "trust"]
