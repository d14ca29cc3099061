"""What a client that may edit the configuration, or see it, tries, and does not get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from opensoul.adapters.config.edit.redaction import redacted_value
from opensoul.adapters.config.secret_texts import REDACTED
from tests.app.serving import SECRET, Served
from tests.config import plants
from tests.control.client import Peer, Refused
from tests.control.conftest import Enter

VARIABLE = "${OPENSOUL_STATE_DIR}"
FORMS = (VARIABLE, "${OPENSOUL_STATE_DIR:-x}", "${opensoul_state_dir:-x}", "x${OPENSOUL_STATE_DIR}")


async def _config(peer: Peer) -> dict[str, Any]:
    got: dict[str, Any] = await peer.call("config.get")
    return got


async def _patch(peer: Peer, **patch: Any) -> Any:
    base = (await _config(peer))["hash"]
    return await peer.call("config.patch", {"raw": json.dumps(patch), "baseHash": base})


async def test_a_text_that_is_shown_cannot_be_made_a_variables_value(
    served: Served, peer: Peer
) -> None:
    for form in FORMS:
        for patch in (
            {"agents": {"list": [{"id": "main", "name": form}]}},
            {"agents": {"entries": {"main": {"name": form}}}},
            {"models": {"providers": {"fake": {"baseUrl": f"http://127.0.0.1/{form}"}}}},
        ):
            with pytest.raises(Refused, match="only the file itself may name a variable"):
                await _patch(peer, **patch)
    workspace = str(served.config_path.parent / "state" / "workspace")
    await peer.call("agents.create", {"name": VARIABLE, "workspace": workspace})
    await peer.call("agents.update", {"agentId": "opensoul_state_dir", "avatar": VARIABLE})
    shown = [agent["name"] for agent in (await peer.call("agents.list"))["agents"]]
    assert VARIABLE in shown


async def test_a_client_cannot_have_files_included(served: Served, peer: Peer) -> None:
    other = served.config_path.parent / "other.json"
    other.write_text('{"private": "what is in it"}')
    with pytest.raises(Refused, match="cannot add an include"):
        await _patch(peer, channels={"$include": str(other)})
    raw = json.dumps({"channels": {"x": [{"$include": [str(other)]}]}})
    base = (await _config(peer))["hash"]
    with pytest.raises(Refused, match="cannot add an include"):
        await peer.call("config.set", {"raw": raw, "baseHash": base})


@pytest.mark.parametrize("form", FORMS)
async def test_a_name_that_looks_like_a_variable_is_a_name(
    served: Served, peer: Peer, form: str
) -> None:
    written = json.loads(served.config_path.read_text())
    served.configure(written | {"agents": {**written["agents"], "entries": {"main": {}}}})
    workspace = str(served.config_path.parent / "state" / "workspace")
    await peer.call("agents.create", {"name": form, "workspace": workspace})
    shown = [agent["name"] for agent in (await peer.call("agents.list"))["agents"]]
    assert form in shown


@pytest.mark.parametrize(
    "reference",
    [
        {"source": "file", "id": "/etc/passwd"},
        {"source": "file", "path": "/etc/passwd"},
        {"source": "file", "provider": "keys", "id": "/other"},
        {"source": "exec", "id": "x"},
    ],
)
async def test_a_client_cannot_have_a_file_read_as_a_secret(
    served: Served, peer: Peer, reference: dict[str, str]
) -> None:
    for patch in (
        {"models": {"providers": {"fake": {"apiKey": reference}}}},
        {"models": {"providers": {"fake": {"headers": {"X": reference}}}}},
        {"models": {"providers": {"new": {"baseUrl": "http://127.0.0.1:1", "apiKey": reference}}}},
        {"gateway": {"auth": {"token": reference}}},
    ):
        with pytest.raises(Refused, match="can only be read from a file, or by a program, by edit"):
            await _patch(peer, **patch)
    written = json.loads(served.config_path.read_text())
    written["models"]["providers"]["fake"]["apiKey"] = reference
    base = (await _config(peer))["hash"]
    with pytest.raises(Refused, match="can only be read from a file"):
        await peer.call("config.set", {"raw": json.dumps(written), "baseHash": base})


async def test_a_client_cannot_lead_a_reference_elsewhere(served: Served, peer: Peer) -> None:
    keys, other = (served.config_path.parent / name for name in ("keys.json", "other.json"))
    keys.write_text('{"k": "a-key"}')
    other.write_text('{"k": "not for anybody"}')
    written = json.loads(served.config_path.read_text())
    reference = {"source": "file", "provider": "keys", "id": "/k"}
    written["secrets"] = {"providers": {"keys": {"source": "file", "path": str(keys)}}}
    written["models"]["providers"]["fake"]["apiKey"] = reference
    served.configure(written)
    snapshot = await _config(peer)
    assert snapshot["valid"]
    assert "a-key" not in json.dumps(snapshot)
    for secrets in (
        {"providers": {"keys": {"path": str(other)}}},
        {"providers": {"more": {"source": "env"}}},
        {"defaults": {"file": "keys"}},
        None,
    ):
        with pytest.raises(
            Refused, match=r"only be changed in the file itself|only be read from a file"
        ):
            await _patch(peer, secrets=secrets)
    with pytest.raises(Refused, match="set apiKey and headers anew"):
        await _patch(peer, models={"providers": {"fake": {"baseUrl": "http://127.0.0.1:1/v1"}}})
    # What is not touched stays as it is written, also where the whole text is sent back.
    raw = snapshot["raw"].replace('"enabled": true', '"enabled": false')
    await peer.call("config.set", {"raw": raw, "baseHash": snapshot["hash"]})
    kept = json.loads(served.config_path.read_text())
    assert kept["models"]["providers"]["fake"]["apiKey"] == reference


async def test_an_include_that_is_written_cannot_be_moved_to_where_it_is_shown(
    served: Served, peer: Peer
) -> None:
    written = json.loads(served.config_path.read_text())
    (served.config_path.parent / "auth.json").write_text(json.dumps({"token": SECRET}))
    written["gateway"]["auth"] = {"$include": "auth.json"}
    served.configure(written)
    snapshot = await _config(peer)
    assert SECRET not in json.dumps(snapshot)
    with pytest.raises(Refused, match="cannot add an include"):
        await _patch(peer, channels={"$include": "auth.json"})


@pytest.mark.parametrize("kept", [{}, {"apiKey": REDACTED}])
async def test_a_key_does_not_follow_its_provider_to_another_server(
    served: Served, peer: Peer, kept: dict[str, str]
) -> None:
    written = json.loads(served.config_path.read_text())
    fake = written["models"]["providers"]["fake"]
    served.configure(written | {"models": {"providers": {"fake": fake | {"apiKey": "a-key"}}}})
    elsewhere = {"baseUrl": "http://127.0.0.1:1/v1"}
    with pytest.raises(Refused, match="set apiKey and headers anew"):
        await _patch(peer, models={"providers": {"fake": elsewhere | kept}})
    path = {"baseUrl": f"{fake['baseUrl']}/other"}
    await _patch(peer, models={"providers": {"fake": path}})
    await _patch(peer, models={"providers": {"fake": elsewhere | {"apiKey": "another-key"}}})


async def test_a_key_is_not_sent_through_a_proxy_that_a_client_chose(
    served: Served, peer: Peer
) -> None:
    written = json.loads(served.config_path.read_text())
    fake = written["models"]["providers"]["fake"]
    safe = {"baseUrl": "https://127.0.0.1:1/v1", "apiKey": "a-key", "models": []}
    providers = {"fake": fake | {"apiKey": "a-key"}, "safe": safe}
    served.configure(written | {"models": {"providers": providers}})
    proxy = {"proxy": "http://127.0.0.1:1"}
    with pytest.raises(Refused, match="set apiKey and headers anew"):
        await _patch(peer, models={"providers": {"fake": proxy | {"apiKey": REDACTED}}})
    for env in ({"HTTP_PROXY": "http://127.0.0.1:1"}, {"vars": {"all_proxy": "127.0.0.1:1"}}):
        with pytest.raises(Refused, match="may affect programs"):
            await _patch(peer, env=env)
    await _patch(peer, models={"providers": {"fake": proxy | {"apiKey": "another-key"}}})
    await _patch(peer, models={"providers": {"safe": proxy}})  # It sees no key of https.
    shown = json.dumps(await _config(peer))
    assert "127.0.0.1:1/v1" in shown
    assert '"http://127.0.0.1:1"' not in shown


@pytest.mark.parametrize("name", ["openai", "anthropic", "openrouter"])
async def test_nor_does_the_key_of_a_built_in_provider(peer: Peer, name: str) -> None:
    elsewhere = {"baseUrl": "http://127.0.0.1:1/v1"}
    with pytest.raises(Refused, match="set apiKey and headers anew"):
        await _patch(peer, models={"providers": {name: elsewhere}})
    await _patch(peer, models={"providers": {name: elsewhere | {"apiKey": "another-key"}}})


@pytest.mark.parametrize(
    "name",
    ["privateKey", "passwd", "credentials", "accessKeyId", "botToken", "webhookUrl", "signing_key"],
)
def test_what_sounds_like_a_secret_is_not_shown(name: str) -> None:
    assert redacted_value({"channels": {"x": {name: "s"}}}) == {"channels": {"x": {name: REDACTED}}}


@pytest.mark.parametrize("name", ["env", "headers", "extra_headers"])
def test_what_programs_and_calls_are_given_is_not_shown(name: str) -> None:
    shown = redacted_value({"plugins": {"x": {name: {"ANY": "s", "on": True}}}})
    assert shown == {"plugins": {"x": {name: {"ANY": REDACTED, "on": True}}}}


async def test_where_files_are_is_for_administrators(served: Served, enter: Enter) -> None:
    missing = str(served.config_path.parent / "missing.json")
    async with enter(scopes=["operator.read"]) as reader, enter() as admin:
        served.configure({"channels": {"$include": missing}})
        assert missing in (await _config(admin))["issues"][0]["message"]
        (issue,) = (await _config(reader))["issues"]
        assert issue["message"] == "there is no file [redacted]"


@pytest.mark.parametrize("method", ["config.set", "config.apply", "config.patch"])
async def test_a_client_cannot_have_the_log_written_elsewhere(
    served: Served, peer: Peer, method: str
) -> None:
    target = served.config_path.parent / ".bashrc"
    target.write_text("# ours\n")
    written = json.loads(served.config_path.read_text())
    for file in (str(target), "~/.bashrc", "state/../.bashrc"):
        raw = json.dumps(written | {"logging": {"file": file}})
        given = {"raw": raw, "baseHash": (await _config(peer))["hash"]}
        with pytest.raises(Refused, match="set it on the Gateway's machine"):
            await peer.call(method, given)
    assert json.loads(served.config_path.read_text()) == written
    assert target.read_text() == "# ours\n"


async def test_a_client_cannot_have_an_agent_work_elsewhere(served: Served, peer: Peer) -> None:
    outside = str(served.config_path.parent / "elsewhere")
    await peer.call("agents.create", {"name": "Ops"})
    for method, params in (
        ("agents.create", {"name": "Other", "workspace": outside}),
        ("agents.update", {"agentId": "ops", "workspace": outside}),
        ("agents.update", {"agentId": "ops", "workspace": "~/elsewhere"}),
    ):
        with pytest.raises(Refused, match="a directory only inside the state directory"):
            await peer.call(method, params)
    assert not (served.config_path.parent / "elsewhere").exists()
    inside = str(served.config_path.parent / "state" / "elsewhere")
    await peer.call("agents.update", {"agentId": "ops", "workspace": inside})


@pytest.mark.parametrize("own", ["skills", "Skills/invoices", "memory-index", "x/../models"])
async def test_a_client_cannot_have_an_agent_work_in_the_gateways_own_directories(
    served: Served, peer: Peer, own: str
) -> None:
    await peer.call("agents.create", {"name": "Ops"})
    state = served.config_path.parent / "state"
    for workspace in (f"{state}/{own}", f"{state}/./{own}"):
        with pytest.raises(Refused, match="none of those that the Gateway itself uses"):
            await peer.call("agents.update", {"agentId": "ops", "workspace": workspace})


async def test_what_is_planted_is_shown_to_no_reader(served: Served, enter: Enter) -> None:
    written = json.loads(served.config_path.read_text())
    text = plants.COMMENTS + json.dumps(plants.WHOLE | written | {"env": plants.WHOLE["env"]})
    served.config_path.write_text(text)
    async with enter(scopes=["operator.read"]) as reader:
        shown = json.dumps([await _config(reader), await reader.call("logs.tail")])
    assert [what for what, secret in plants.PLANTED.items() if secret in shown] == []


async def test_a_long_text_of_question_marks_is_shown_at_once(served: Served, peer: Peer) -> None:
    written = json.loads(served.config_path.read_text())
    served.configure(written | {"channels": {"x": "?" * 200_000, "url": "http://h?" + "&" * 9_999}})
    assert (await _config(peer))["valid"]


@pytest.mark.parametrize("place", ["header", "model", "parameter"])
async def test_nothing_that_is_sent_to_a_provider_follows_it_to_another_server(
    served: Served, peer: Peer, place: str
) -> None:
    written = json.loads(served.config_path.read_text())
    fake = written["models"]["providers"]["fake"]
    match place:
        case "header":
            fake["models"][0]["headers"] = {"X-Key": "a-key"}
        case "model":
            fake["models"][0]["params"] = {"api_key": "a-key"}
        case _:
            written["agents"]["defaults"]["models"] = {"fake/m": {"params": {"api_key": "a-key"}}}
    served.configure(written)
    with pytest.raises(Refused, match="is another server than the one its credentials"):
        await _patch(peer, models={"providers": {"fake": {"baseUrl": "http://127.0.0.1:1/v1"}}})
