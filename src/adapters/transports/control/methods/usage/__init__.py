"""Usage reports."""

from .days import DayParams, days_of
from .methods import UsageMethods
from .sums import Sums, grouped, messages

__all__ = [
    "DayParams",
    "Sums",
    "UsageMethods",
    "days_of",
    "grouped",
    "messages",
]
