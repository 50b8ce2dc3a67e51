"""`python -m edge_agent.sync.certificate_request --site SITE --key PATH`: PKCS#10 (DER) on standard output.

Runs as a child of the sync process. It is needed at enrolment and at renewals, weeks apart, and the library that makes
certificate requests holds 10 MB for as long as its process lives: a sixth of what the sync process may have.
"""

import argparse
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from edge_agent.model.config import TokenConfig
from edge_agent.model.files import write_private
from edge_agent.sync.keys import TOKEN_KEY, open_token
from protos.hardware import TokenError
from protos.settings import SettingsError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m edge_agent.sync.certificate_request", description=__doc__)
    parser.add_argument("--key", type=Path, help="PEM file of the ECDSA P-256 key; made if missing")
    parser.add_argument("--module", help="instead: the library of the PKCS#11 token that has the key, or makes it")
    parser.add_argument("--label")
    parser.add_argument("--pin-file")
    parser.add_argument("--site", required=True, help="becomes the common name")
    arguments = parser.parse_args()
    try:
        if arguments.key is not None:
            key = _key(arguments.key)
        else:
            place = TokenConfig(module=arguments.module, label=arguments.label, pin_file=arguments.pin_file)
            token = open_token(place)
            key = token.p256(TOKEN_KEY, make=not token.has(TOKEN_KEY))
    except (OSError, ValueError, SettingsError, TokenError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.buffer.write(_request(key, arguments.site))
    return 0


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        write_private(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return fresh
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not an ECDSA P-256 key")
    return key


def _request(key: ec.EllipticCurvePrivateKey, site: str) -> bytes:
    """PKCS#10, DER; its signature proves possession of the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


if __name__ == "__main__":
    sys.exit(main())
