"""Point types: registers to values and back, with the value that means "not implemented".

Sentinels and sizes are those of the SunSpec Device Information Model Specification. Where an accumulator reads 0 the
specification makes no difference between "not implemented" and a true zero; it is taken as not implemented, as there.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

Value = int | float | str
MAX_SCALE = 10  # a scale factor is a power of ten from -10 to 10


@dataclass(frozen=True, slots=True)
class _Number:
    """A number of fixed size; `absent` is the bit pattern of a point that is not implemented."""

    layout: struct.Struct
    absent: bytes


def _number(code: str, absent: str) -> _Number:
    return _Number(struct.Struct(f">{code}"), bytes.fromhex(absent))


_NUMBERS = {
    "int16": _number("h", "8000"),
    "uint16": _number("H", "ffff"),
    "count": _number("H", "ffff"),
    "acc16": _number("H", "0000"),
    "enum16": _number("H", "ffff"),
    "bitfield16": _number("H", "ffff"),
    "sunssf": _number("h", "8000"),
    "int32": _number("i", "80000000"),
    "uint32": _number("I", "ffffffff"),
    "acc32": _number("I", "00000000"),
    "enum32": _number("I", "ffffffff"),
    "bitfield32": _number("I", "ffffffff"),
    "ipaddr": _number("I", "00000000"),
    "int64": _number("q", "8000000000000000"),
    "uint64": _number("Q", "ffffffffffffffff"),
    "acc64": _number("Q", "0000000000000000"),
    "float32": _number("f", "7fc00000"),
    "float64": _number("d", "7ff8000000000000"),
}


def _decode_string(data: bytes) -> str | None:
    text = data.rstrip(b"\0")
    return text.decode("utf-8", errors="replace") if text and data[0] else None


def _encode_string(value: Value, size: int) -> bytes:
    data = str(value).encode()
    if len(data) > size * 2:
        raise ValueError(f"{value!r} is longer than {size * 2} bytes")
    return data.ljust(size * 2, b"\0")


def _decode_eui48(data: bytes) -> str | None:
    address = data[2:8]
    return None if address in (b"\xff" * 6, b"\0" * 6) else address.hex(":").upper()


def _encode_eui48(value: Value, size: int) -> bytes:
    return bytes.fromhex(str(value).replace(":", "")).rjust(size * 2, b"\0")


def _decode_ipv6(data: bytes) -> str | None:
    return data.hex(":", 4).upper() if any(data) else None


def _encode_ipv6(value: Value, size: int) -> bytes:
    return bytes.fromhex(str(value).replace(":", "")).rjust(size * 2, b"\0")


@dataclass(frozen=True, slots=True)
class _Text:
    """A point that is text to people."""

    decode: Callable[[bytes], str | None]
    encode: Callable[[Value, int], bytes]
    absent: str  # what a point that is not implemented would say


_TEXTS = {
    "string": _Text(_decode_string, _encode_string, ""),
    "eui48": _Text(_decode_eui48, _encode_eui48, "FF:FF:FF:FF:FF:FF"),
    "ipv6addr": _Text(_decode_ipv6, _encode_ipv6, ""),
}


def number_format(point_type: str) -> tuple[str, Value] | None:
    """(struct code, the value that means "not implemented") of a number; None for what is no number.

    For decoding many at once. Of floats every NaN means it, not only the one given here.
    """
    number = _NUMBERS.get(point_type)
    if number is None:
        return None
    return number.layout.format.lstrip(">"), number.layout.unpack(number.absent)[0]


def decode(point_type: str, data: bytes) -> Value | None:
    """The raw value of a point from its registers, None where it is not implemented."""
    number = _NUMBERS.get(point_type)
    if number is not None:
        if data == number.absent:
            return None
        value: int | float = number.layout.unpack(data)[0]
        return None if value != value else value  # every NaN, not only the published one, is no value
    if point_type == "pad":
        return None
    return _TEXTS[point_type].decode(data)


def encode(point_type: str, size: int, value: Value | None) -> bytes:
    """The registers of a raw value; None gives what means "not implemented".

    Raises ValueError where the value does not fit.
    """
    number = _NUMBERS.get(point_type)
    if number is not None:
        if value is None:
            return number.absent
        try:
            data = number.layout.pack(value)
        except (struct.error, OverflowError) as error:
            raise ValueError(f"{value!r} does not fit {point_type}: {error}") from None
        if data == number.absent and number.absent.strip(b"\0"):
            raise ValueError(f"{value!r} would read as 'not implemented' in {point_type}")
        return data
    if point_type == "pad":
        return bytes(size * 2)
    text = _TEXTS[point_type]
    return text.encode(text.absent if value is None else value, size)


def scaled(raw: int | float, scale: int) -> float:
    """raw x 10^scale, rounded once (dividing by a power of ten is exact where multiplying by 0.1 is not)."""
    return float(raw * 10**scale if scale >= 0 else raw / 10**-scale)


def unscaled(value: float, scale: int) -> int:
    """The register value next to `value` on the side of zero: a power is never written larger than it was meant."""
    return int(round(value / 10**scale if scale >= 0 else value * 10**-scale, 6))
