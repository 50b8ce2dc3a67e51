"""Private keys that never leave a PKCS#11 token (TPM, secure element, HSM), as keys of the library `cryptography`.

What is signed with them (certificate requests, certificates, JWTs, commands) does not know the difference. Needs the
extra `pkcs11`.
"""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

# EC parameters of edwards25519 as PKCS#11 names them (a PrintableString; RFC 8032's curve).
_EDWARDS: Final = b"\x13\x0cedwards25519"
_ED25519_BYTES: Final = 32

# python-pkcs11 initialises modules for one thread and lets others run while it is in them: one call at a time,
# whichever Token it is for.
_LOCK: Final = threading.RLock()


@dataclass(slots=True)
class _Login:
    """To a token. It is the whole process's: who logs out takes every other session's private keys away."""

    session: Any
    users: int = 0


_LOGINS: Final[dict[tuple[str, str, str], _Login]] = {}  # by module, label and PIN


class TokenError(Exception):
    """A token that cannot be used: names module, token and remedy in one line."""


class Token:
    """A token that is logged in to, until the last who uses it in this process closes it. Any thread may use it."""

    def __init__(self, module: Path, label: str, pin: str) -> None:
        """Raises TokenError."""
        self._where = f"PKCS#11 token {label!r} of {module}"
        try:
            import pkcs11
        except ImportError as error:
            raise TokenError(
                f"{self._where}: needs the extra `pkcs11` (pip install 'murmuration-vpp[pkcs11]')"
            ) from error
        self._pkcs11 = pkcs11
        self._key = (str(module), label, pin)
        try:
            with _LOCK:
                login = _LOGINS.get(self._key)
                if login is None:
                    session = pkcs11.lib(str(module)).get_token(token_label=label).open(rw=True, user_pin=pin)
                    login = _LOGINS[self._key] = _Login(session)
                login.users += 1
                self._session = login.session
        except (pkcs11.PKCS11Error, RuntimeError, OSError) as error:
            finding = str(error) or type(error).__name__
            raise TokenError(f"{self._where}: cannot be opened ({finding}); check module, label and PIN") from error

    def p256(self, name: str, *, make: bool = False) -> ec.EllipticCurvePrivateKey:
        """The ECDSA P-256 key of that name, made if asked for. Raises TokenError."""
        from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters

        types = self._pkcs11
        with _LOCK:
            private, public = self._pair(name, types.KeyType.EC, encode_named_curve_parameters("secp256r1"), None, make)
            key = load_der_public_key(encode_ec_public_key(public))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TokenError(f"{self._where}: {name} is not a P-256 key")
        return _P256(self, private, key)

    def ed25519(self, name: str, *, make: bool = False) -> Ed25519PrivateKey:
        """The Ed25519 key of that name, made if asked for. Raises TokenError."""
        types = self._pkcs11
        how = types.Mechanism.EC_EDWARDS_KEY_PAIR_GEN
        with _LOCK:
            private, public = self._pair(name, types.KeyType.EC_EDWARDS, _EDWARDS, how, make)
            # An OCTET STRING around the point; some tokens leave the wrapping out.
            raw = bytes(public[types.Attribute.EC_POINT])[-_ED25519_BYTES:]
        return _Ed25519(self, private, Ed25519PublicKey.from_public_bytes(raw))

    def has(self, name: str) -> bool:
        with _LOCK:
            return any(True for _ in self._session.get_objects({self._pkcs11.Attribute.LABEL: name}))

    def remove(self, name: str) -> None:
        """Destroys a key pair, if it is there."""
        with _LOCK:
            for found in list(self._session.get_objects({self._pkcs11.Attribute.LABEL: name})):
                found.destroy()

    def close(self) -> None:
        """Once."""
        with _LOCK:
            login = _LOGINS[self._key]
            login.users -= 1
            if login.users == 0:
                del _LOGINS[self._key]
                login.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pair(self, name: str, kind: Any, parameters: bytes, mechanism: Any, make: bool) -> tuple[Any, Any]:
        types = self._pkcs11
        wanted = {types.Attribute.LABEL: name, types.Attribute.KEY_TYPE: kind}
        try:
            with _LOCK:
                if make:
                    domain = self._session.create_domain_parameters(
                        kind, {types.Attribute.EC_PARAMS: parameters}, local=True
                    )
                    fixed = {types.Attribute.SENSITIVE: True, types.Attribute.EXTRACTABLE: False}
                    public, private = domain.generate_keypair(
                        mechanism=mechanism, store=True, label=name, private_template=fixed
                    )
                    return private, public
                found = [
                    next(iter(self._session.get_objects({**wanted, types.Attribute.CLASS: of})), None)
                    for of in (types.ObjectClass.PRIVATE_KEY, types.ObjectClass.PUBLIC_KEY)
                ]
        except types.PKCS11Error as error:
            raise TokenError(
                f"{self._where}: {name}: {error or type(error).__name__}; does it do this curve?"
            ) from error
        if None in found:
            raise TokenError(f"{self._where}: holds no key {name}; put the token back that has it")
        return found[0], found[1]

    def sign(self, private: Any, data: bytes, mechanism: str) -> bytes:
        """Raises TokenError."""
        types = self._pkcs11
        try:
            with _LOCK:
                return bytes(private.sign(data, mechanism=types.Mechanism[mechanism]))
        except types.PKCS11Error as error:
            raise TokenError(f"{self._where}: does not sign ({type(error).__name__}); is it still there?") from error


class _P256(ec.EllipticCurvePrivateKey):
    def __init__(self, token: Token, handle: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._token, self._handle, self._public = token, handle, public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """DER, over SHA-256 of `data`: the one algorithm that is used with this curve here."""
        from pkcs11.util.ec import encode_ecdsa_signature

        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise ValueError("a token's P-256 key signs SHA-256")
        raw = self._token.sign(self._handle, hashlib.sha256(data).digest(), "ECDSA")
        return encode_ecdsa_signature(raw)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise ValueError("a token's key signs, and does nothing else")

    def private_numbers(self) -> NoReturn:
        raise ValueError("a token's key does not leave it")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError("a token's key does not leave it")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class _Ed25519(Ed25519PrivateKey):
    def __init__(self, token: Token, handle: Any, public: Ed25519PublicKey) -> None:
        self._token, self._handle, self._public = token, handle, public

    def public_key(self) -> Ed25519PublicKey:
        return self._public

    def sign(self, data: Any) -> bytes:
        return self._token.sign(self._handle, bytes(data), "EDDSA")

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        raise ValueError("a token's key does not leave it")

    def private_bytes_raw(self) -> NoReturn:
        raise ValueError("a token's key does not leave it")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self
