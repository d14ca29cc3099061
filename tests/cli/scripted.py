"""A Gateway whose models are scripts: one answers at once, one takes its time, one fails."""

from __future__ import annotations

import json

CONFIG = json.dumps(
    {
        "gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": True}}}},
        "agents": {
            "defaults": {
                "model": {"primary": "scripted/echo"},
                "models": {
                    "scripted/slow": {"params": {"chunks": ["one "] * 300, "delay": 1}},
                    "scripted/broken": {"params": {"fail": "auth"}},
                },
            },
            "list": [
                {"id": "main", "default": True},
                {"id": "slow", "model": "scripted/slow"},
                {"id": "broken", "model": "scripted/broken"},
            ],
        },
        "models": {
            "providers": {
                "scripted": {
                    "api": "scripted",
                    "models": [{"id": "echo"}, {"id": "slow"}, {"id": "broken"}],
                }
            }
        },
    }
)
