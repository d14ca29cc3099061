"""Approvals: who decides on them, and who gets reports of them."""

from .approvals import Approvals, may_decide
from .observed import ObservedApprovals, OnApproval

__all__ = ["Approvals", "ObservedApprovals", "OnApproval", "may_decide"]
