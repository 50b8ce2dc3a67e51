"""One-time passwords against the vectors of RFC 6238, appendix B (SHA-1; its eight digits end in our six)."""

import pytest

from cloud.identity import totp

RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("at_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_codes_of_the_rfc(at_s: int, code: str) -> None:
    assert totp.matching_step(RFC_SECRET, code[-6:], at_s=at_s, after_step=None) == at_s // 30


def test_a_code_is_good_for_a_step_either_side_and_once() -> None:
    step = 1111111109 // 30
    for at_s, taken in (
        (30 * step - 30, True),
        (30 * step + 59, True),
        (30 * step - 31, False),
        (30 * step + 60, False),
    ):
        assert (totp.matching_step(RFC_SECRET, "081 804", at_s=at_s, after_step=None) == step) is taken
    assert totp.matching_step(RFC_SECRET, "081804", at_s=1111111109, after_step=step) is None
    assert totp.matching_step(RFC_SECRET, "081804", at_s=1111111109, after_step=step - 1) == step


@pytest.mark.parametrize("code", ["", "08180", "0818044", "08180x", "٠٨١٨٠٤", "-81804"])
def test_what_is_no_code_matches_nothing(code: str) -> None:
    assert totp.matching_step(RFC_SECRET, code, at_s=1111111109, after_step=None) is None


def test_an_app_gets_the_same_secret_by_picture_and_by_hand() -> None:
    uri = totp.provisioning_uri(RFC_SECRET, "ada")
    assert uri.startswith("otpauth://totp/Murmuration:ada?")
    assert f"secret={totp.typed(RFC_SECRET).replace(' ', '')}" in uri
