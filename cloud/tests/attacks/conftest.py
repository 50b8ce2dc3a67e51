from cloud.tests.gateway.conftest import broker, gateway, keyring, trust

__all__ = ["broker", "gateway", "keyring", "trust"]
