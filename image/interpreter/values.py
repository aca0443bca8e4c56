"""Turns values of Python, numpy and pandas into what JSON can hold."""

import datetime
import decimal
import math


def plain(value):
    """A number, text, truth value or None. Dates become ISO text; what is not
    a number (NaN, infinity, a missing value) becomes None."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # Beyond this a number of JavaScript is another number.
        return int(value) if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return plain(float(value))
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        kind = value.dtype.kind
        if kind in "mM":
            return None if value != value else str(value)
        return plain(value.item()) if kind in "biufUS" else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def number(value):
    """A float, or None for what is not finite."""
    value = float(value)
    return value if math.isfinite(value) else None
