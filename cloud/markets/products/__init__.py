"""Market products as data: what may be sold of a frequency service, and how much a site may contract of it."""

from importlib import resources
from typing import Annotated

import msgspec
import numpy as np

from protos.services import Service

Positive = Annotated[float, msgspec.Meta(gt=0)]


class ProductError(ValueError):
    """A product that cannot be used; says which one, which key and why."""


class Product(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the market calls by this name."""

    id: str
    title: str
    sustain_s: Positive  # full delivery must be possible this long [s]
    minimum_w: Annotated[int, msgspec.Meta(ge=1)]  # smallest offer [W]
    largest_share_of_rating: Annotated[float, msgspec.Meta(gt=0, le=1)]
    design_deviation_hz: Positive  # by this deviation a curve delivers what is sold of it [Hz]


def parse(text: str) -> Product:
    """The product a TOML text describes. Raises ProductError."""
    try:
        return msgspec.toml.decode(text, type=Product)
    except msgspec.DecodeError as error:
        raise ProductError(f"product: {error}") from error


def load(product_id: str) -> Product:
    """A product that ships with the coordinator. Raises ProductError."""
    known = sorted(f.name[:-5] for f in resources.files(__name__).iterdir() if f.name.endswith(".toml"))
    if product_id not in known:
        raise ProductError(f"product {product_id!r} is unknown: one of {', '.join(known)}")
    return parse((resources.files(__name__) / f"{product_id}.toml").read_text(encoding="utf-8"))


def contract_limit_w(product: Product, service: Service, rated_power_w: float) -> float:
    """The most a site with this inverter may contract [W].

    A curve that refers to the inverter's rating delivers a fixed power at a given deviation whatever was contracted
    (up to that), so more than it delivers at the product's design deviation cannot honestly be sold.
    """
    limit = product.largest_share_of_rating
    if service.curve is not None and service.curve.reference == "rating":
        deviations, shares = np.asarray(service.curve.knots).T
        at = np.interp([-product.design_deviation_hz, product.design_deviation_hz], deviations, shares)
        limit = min(limit, float(np.abs(at).max()))
    return limit * rated_power_w
