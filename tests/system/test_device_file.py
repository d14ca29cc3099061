"""The book of devices in a file: whole, private, and never emptied by mistake."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from opensoul.adapters.system.files.devices import DeviceFile, MemoryDeviceBook
from opensoul.domain.access import Scope
from opensoul.domain.access.devices.records import (
    DeviceInfo,
    DeviceState,
    DeviceToken,
    PairedDevice,
    PairingReason,
    PendingPairing,
    Role,
)
from opensoul.domain.errors import StoreFailed
from opensoul.domain.ports.access import DeviceBook

TOKEN = DeviceToken(Role.OPERATOR, frozenset({Scope.READ, Scope.WRITE}), 1.5, "ab" * 32, False)
INFO = DeviceInfo("Täblet", "iOS", "iPad", "opensoul-ios", "ui", "203.0.113.7")
PAIRED = PairedDevice("d1", "key", INFO, {Role.OPERATOR: TOKEN}, 1.0, 2.5)
PENDING = PendingPairing(
    "r1", "d2", "key2", Role.NODE, frozenset(), DeviceInfo(), PairingReason.ROLE, True, 3.0
)
STATE = DeviceState({"d1": PAIRED}, {"d2": PENDING})


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_what_was_saved_is_loaded(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state" / "devices.json"
    book: DeviceBook = DeviceFile(path) if kind == "file" else MemoryDeviceBook()
    assert await book.load() == DeviceState()
    await book.save(STATE)
    again = DeviceFile(path) if kind == "file" else book
    assert await again.load() == STATE
    await again.save(DeviceState())
    assert await again.load() == DeviceState()


async def test_the_file_is_the_owners_alone_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "devices.json"
    old = os.umask(0)
    try:
        await DeviceFile(path).save(STATE)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["devices.json"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"", "the whole file"),
        (b"{", "the whole file"),
        (b"null", "the whole file"),
        (b"{}", "version"),
        (b'{"version": 2}', "version"),
        (b'{"version": 1, "devices": {"paired": {"x": {}}}}', "devices.paired.x"),
        (b'{"version": 1, "devices": {"paired": []}}', "devices.paired"),
        (b"\xff\xfe", "the whole file"),
    ],
)
async def test_a_damaged_file_is_an_error_that_says_where_and_stays(
    tmp_path: Path, text: bytes, where: str
) -> None:
    path = tmp_path / "devices.json"
    path.write_bytes(text)
    with pytest.raises(StoreFailed, match=rf"devices\.json is damaged: {where}") as failed:
        await DeviceFile(path).load()
    assert "move it away" in failed.value.message
    assert path.read_bytes() == text


async def test_what_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "devices.json"
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(StoreFailed, match="cannot be read"):
        await DeviceFile(path).load()
    with pytest.raises(StoreFailed, match="cannot be written"):
        await DeviceFile(path).save(STATE)
    assert os.listdir(tmp_path) == ["devices.json"]


async def test_the_form_of_the_file_is_kept(tmp_path: Path) -> None:
    """Another shape of the records would need another version, and a way from this one."""
    path = tmp_path / "devices.json"
    path.write_text(
        '{"version": 1, "devices": {"paired": {"d1": {"id": "d1", "public_key": "key", "info": '
        '{"display_name": "T\\u00e4blet", "platform": "iOS", "device_family": "iPad", "client_id": '
        '"opensoul-ios", "client_mode": "ui", "address": "203.0.113.7"}, "tokens": {"operator": '
        '{"role": "operator", "scopes": ["operator.read", "operator.write"], "created_at": 1.5, '
        f'"digest": "{"ab" * 32}", "due": false, "rotated_at": null, "revoked_at": null, '
        '"last_used_at": null}}, "created_at": 1, "approved_at": 2.5}}, "pending": {"d2": '
        '{"request_id": "r1", "device_id": "d2", "public_key": "key2", "role": "node", "scopes": '
        '[], "info": {}, "reason": "role-upgrade", "is_repair": true, "created_at": 3}}}}'
    )
    assert await DeviceFile(path).load() == STATE
