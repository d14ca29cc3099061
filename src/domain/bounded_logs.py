"""How a log line says that it is one of many: what a stranger causes is logged at a bounded rate.

A line with this attribute (`extra={KIND: "connections refused"}`) is one of its kind. Of each kind
the log has some lines a minute, and then the number of those that were left out.
"""

from __future__ import annotations

KIND = "bounded_kind"
