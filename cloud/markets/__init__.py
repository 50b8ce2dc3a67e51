"""Offers, awards and settlement."""
