"""How clients reach the Gateway."""

from .routes import Limits, Route, RouteTable, Switch, Transport

__all__ = ["Limits", "Route", "RouteTable", "Switch", "Transport"]
