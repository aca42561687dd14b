"""Figures as people read them: a true minus, and no sign on what rounds to zero."""

from __future__ import annotations

__all__ = ["decimal", "signed"]


def decimal(value: float, digits: int = 3) -> str:
    """Write a number.

    >>> decimal(0.71234), decimal(-0.5), decimal(-0.0001)
    ('0.712', '−0.500', '0.000')
    """
    return _written(value, digits, "")


def signed(value: float, digits: int = 3) -> str:
    """Write a difference, with its sign.

    >>> signed(0.0123), signed(-0.5), signed(-0.0001)
    ('+0.012', '−0.500', '0.000')
    """
    return _written(value, digits, "+")


def _written(value: float, digits: int, sign: str) -> str:
    rounded = round(value, digits)
    return f"{rounded:{sign},.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"
