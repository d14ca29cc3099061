"""The commands that talk to a Gateway, beside one that runs as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.process import OPENSOUL, GatewayProcess

from .command import Home
from .scripted import CONFIG


def begun(gateway: GatewayProcess, *arguments: str) -> subprocess.Popen[str]:
    """A command as a process of its own, whose output is read piece by piece."""
    return subprocess.Popen(
        [OPENSOUL, *arguments],
        env=gateway.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_agent_answers(beside: Home) -> None:
    asked = beside.opensoul("agent", "-m", "hello there")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == "[scripted] You said: hello there\n"


def test_a_streamed_answer_says_the_same(beside: Home) -> None:
    asked = beside.opensoul("agent", "--message", "hello there", "--stream")
    assert asked.out == "[scripted] You said: hello there\n"


def test_the_final_answer_is_there_for_programs(beside: Home) -> None:
    key = "agent:main:for-programs"
    asked = beside.opensoul("agent", "-m", "hi", "--session-key", key, "--timeout", "30", "--json")
    assert asked.json["status"] == "ok"
    assert asked.json["result"]["payloads"] == [{"text": "[scripted] You said: hi"}]
    run = beside.opensoul("runs", "show", asked.json["runId"], "--json").json
    assert (run["status"], run["sessionKey"]) == ("finished", key)


def test_a_run_may_be_given_less_than_a_second(beside: Home) -> None:
    asked = beside.opensoul("agent", "-m", "hi", "--agent", "slow", "--timeout", "0.2")
    assert asked.code == 1
    assert "longer than the 0.2 s it may" in asked.err


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "-1", "soon"])
@pytest.mark.parametrize("command", [("agent", "-m", "hi"), ("gateway", "status")])
def test_what_is_no_number_of_seconds_is_a_usage_error(
    home: Home, command: tuple[str, ...], seconds: str
) -> None:
    refused = home.opensoul(*command, "--timeout", seconds)
    assert refused.code == 2
    assert "--timeout" in refused.err


def test_the_message_may_come_from_standard_input(gateway: GatewayProcess) -> None:
    done = subprocess.run(
        [OPENSOUL, "agent", "-m", "-"],
        env=gateway.env,
        input="from a pipe\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "[scripted] You said: from a pipe\n"


@pytest.mark.e2e
def test_an_interrupt_is_reported_to_programs_as_json(
    gateway: GatewayProcess, beside: Home
) -> None:
    key = "agent:slow:interrupted-json"
    asked = begun(gateway, "agent", "-m", "go", "--session-key", key, "--json")
    while not beside.opensoul("runs", "list", "--session", key, "--json").json["runs"]:
        assert asked.poll() is None
    asked.send_signal(signal.SIGINT)
    out, err = asked.communicate(timeout=60)
    assert (asked.returncode, out) == (130, "")
    assert json.loads(err)["error"] == {"code": "interrupted", "message": "aborted"}


def test_groups_that_list_do_so_without_a_command(beside: Home) -> None:
    for group in ("agents", "models", "sessions", "runs", "devices"):
        assert beside.opensoul(group).out == beside.opensoul(group, "list").out != ""


def test_what_is_wrong_with_a_question_is_reported(beside: Home) -> None:
    unknown = beside.opensoul("agent", "-m", "hi", "--agent", "nobody")
    assert unknown.code == 1
    assert "nobody" in unknown.err
    failed = beside.opensoul("agent", "-m", "hi", "--agent", "broken", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert failed.json_error["message"]
    assert beside.opensoul("agent", "-m", " ").code == 2
    assert beside.opensoul("agent").code == 2


def test_an_interrupt_stops_the_run(gateway: GatewayProcess, beside: Home) -> None:
    key = "agent:slow:interrupted"
    asked = begun(gateway, "agent", "-m", "go", "--session-key", key, "--stream")
    assert asked.stdout is not None
    assert asked.stdout.read(4) == "[scr"
    asked.send_signal(signal.SIGINT)
    _, err = asked.communicate(timeout=60)
    assert (asked.returncode, err) == (130, "opensoul: aborted\n")
    [run] = beside.opensoul("runs", "list", "--session", key, "--json").json["runs"]
    assert run["status"] == "aborted"


def test_a_run_is_followed_and_aborted_from_elsewhere(
    gateway: GatewayProcess, beside: Home
) -> None:
    key = "agent:slow:followed"
    asked = begun(gateway, "agent", "-m", "go", "--session-key", key, "--stream")
    assert asked.stdout is not None
    assert asked.stdout.read(4) == "[scr"
    listed = beside.opensoul("runs", "--json").json["runs"]
    [run_id] = [run["runId"] for run in listed if run["sessionKey"] == key]
    following = begun(gateway, "runs", "follow", run_id)
    assert following.stdout is not None
    assert following.stdout.read(4) == "[scr"
    aborted = beside.opensoul("runs", "abort", run_id)
    assert (aborted.code, aborted.out) == (0, "Aborted.\n")
    assert beside.opensoul("runs", "abort", run_id).out == "The run had ended already.\n"
    for process in (asked, following):
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "aborted" in err
    events = beside.opensoul("runs", "follow", run_id, "--json").out.splitlines()
    assert [json.loads(event)["seq"] for event in events] == list(range(1, len(events) + 1))
    assert json.loads(events[-1])["event"] == "Aborted"


def test_runs_are_listed_in_pages(beside: Home) -> None:
    for _ in range(2):
        beside.opensoul("agent", "-m", "hi")
    page = beside.opensoul("runs", "list", "--limit", "1")
    assert page.out.startswith("RUN ")
    cursor = page.err.split()[-1]
    second = beside.opensoul("runs", "list", "--limit", "1", "--cursor", cursor)
    assert second.code == 0
    assert second.out != page.out
    unknown = beside.opensoul("runs", "show", "absent")
    assert unknown.code == 1
    assert "absent" in unknown.err


def test_sessions_are_looked_after(beside: Home) -> None:
    key = "agent:main:looked-after"
    beside.opensoul("agent", "-m", "remember", "--session-key", key)
    assert key in beside.opensoul("sessions").out
    rows = beside.opensoul("sessions", "list", "--search", "looked-after", "--json").json
    assert [row["key"] for row in rows["sessions"]] == [key]
    shown = beside.opensoul("sessions", "show", key).out
    assert key in shown
    assert "user:\nremember\n" in shown
    assert beside.opensoul("sessions", "compact", key, "--keep", "1").code == 0
    assert beside.opensoul("sessions", "reset", key, "--json").json["ok"] is True
    assert beside.opensoul("sessions", "delete", key).out == f"{key} is deleted.\n"
    assert beside.opensoul("sessions", "show", key).code == 1


def test_models_status_and_health_are_reported(beside: Home) -> None:
    models = beside.opensoul("models", "list", "--json").json["models"]
    assert {model["id"] for model in models} >= {"echo", "slow"}
    assert "scripted/echo" in beside.opensoul("models", "list").out
    status = beside.opensoul("status")
    assert "gateway" in status.out
    assert beside.opensoul("status", "--json").json["health"]["ok"] is True
    assert beside.opensoul("health").out == "ok\n"


def test_the_log_is_reported(beside: Home) -> None:
    outcome = beside.opensoul("logs", "--limit", "5", "--json").json
    assert len(outcome["lines"]) <= 5
    assert beside.opensoul("logs").code == 0


@pytest.mark.e2e
def test_the_log_is_followed_until_an_interrupt(gateway: GatewayProcess, beside: Home) -> None:
    following = begun(gateway, "logs", "--follow", "--interval", "0.1")
    beside.opensoul("agent", "-m", "hi", "--agent", "broken")
    assert following.stdout is not None
    assert following.stdout.readline()
    following.send_signal(signal.SIGINT)
    following.communicate(timeout=60)
    assert following.returncode == 130


def test_devices_are_listed(beside: Home) -> None:
    listed = beside.opensoul("devices")
    assert (listed.err, listed.out) == ("", "No devices are paired.\n")
    assert beside.opensoul("devices", "approve").code == 1
    unknown = beside.opensoul("devices", "approve", "absent", "--json")
    assert unknown.code == 1
    assert "unknown requestId" in unknown.json_error["message"]
    for command in (["reject", "x"], ["remove", "x"], ["rotate", "x"], ["revoke", "x"]):
        assert beside.opensoul("devices", *command).code == 1


def test_any_method_is_called(beside: Home) -> None:
    params = json.dumps({"message": "hi", "idempotencyKey": "called"})
    accepted = beside.opensoul("gateway", "call", "agent", "--params", params)
    assert accepted.json["status"] == "accepted"
    final = beside.opensoul("gateway", "call", "agent", "--params", params, "--expect-final")
    assert (final.json["runId"], final.json["status"]) == ("called", "ok")
    unknown = beside.opensoul("gateway", "call", "nothing")
    assert (unknown.code, "unknown method: nothing" in unknown.err) == (1, True)
    for wrong in ("{", "[]"):
        assert beside.opensoul("gateway", "call", "health", "--params", wrong).code == 2


def test_the_gateway_is_probed(gateway: GatewayProcess, beside: Home) -> None:
    probed = beside.opensoul("gateway", "probe")
    assert probed.code == 0
    assert "answers in" in probed.out
    outcome = beside.opensoul("gateway", "status", "--json").json
    assert outcome["reachable"] is True
    assert str(gateway.pid) in outcome["owner"]
    assert outcome["config"] == str(gateway.config_path)
    assert "operator.read" in outcome["scopes"]
    assert "owner" in beside.opensoul("gateway", "status").out


def test_the_doctor_knows_another_gateway_by_its_port(
    gateway: GatewayProcess, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", str(gateway.port))
    assert f"port {gateway.port} is in use by another Gateway" in home.opensoul("doctor").out


def test_a_wrong_secret_is_reported_with_where_the_right_one_is(
    gateway: GatewayProcess, home: Home
) -> None:
    url = f"ws://127.0.0.1:{gateway.port}"
    refused = home.opensoul("health", "--url", url, "--token", "wrong", "--json")
    assert refused.code == 1
    assert "token mismatch" in refused.json_error["message"]
    assert "`opensoul token show`" in refused.json_error["message"]
    assert refused.json_error["code"] == "auth_token_mismatch"


def test_a_secret_from_a_file_opens_another_gateway(
    gateway: GatewayProcess, home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(gateway.token)
    url = f"http://127.0.0.1:{gateway.port}"
    assert home.opensoul("health", "--url", url, "--token-file", str(file)).out == "ok\n"


def test_the_configured_secret_goes_nowhere_else(home: Home) -> None:
    for url in ("ws://127.0.0.1:9", "wss://gateway.example", "gateway.example:1"):
        refused = home.opensoul("health", "--url", url, "--json")
        assert refused.json_error["code"] == "credentials_needed"
    for url in ("ftp://x", "ws://", "ws://user@x", "ws://x:port", "ws://[::1", "ws://x:0"):
        refused = home.opensoul("health", "--url", url, "--token", "x", "--json")
        assert (refused.code, refused.json_error["code"]) == (2, "usage")


def test_without_a_gateway_it_is_said_how_to_start_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSOUL_GATEWAY_PORT", "9")
    refused = home.opensoul("agent", "-m", "hi")
    assert refused.code == 1
    assert "opensoul gateway" in refused.err
    assert home.opensoul("gateway", "probe").code == 1
    outcome = home.opensoul("gateway", "status", "--json")
    assert (outcome.code, outcome.json["reachable"], outcome.json["owner"]) == (1, False, None)
    # Looking leaves no trace.
    assert not home.state.exists()


def test_without_a_terminal_there_is_no_chat(home: Home) -> None:
    assert home.opensoul("tui", "--json").json_error["code"] == "no_terminal"


def test_a_local_question_needs_no_gateway(home: Home) -> None:
    home.configure(CONFIG)
    asked = home.opensoul("agent", "-m", "hi", "--local")
    assert (asked.code, asked.out) == (0, "[scripted] You said: hi\n")
    outcome = home.opensoul("agent", "-m", "hi", "--local", "--json").json
    assert outcome["result"]["payloads"] == [{"text": "[scripted] You said: hi"}]
    broken = ("--local", "--agent", "broken", "--thinking", "low")
    assert home.opensoul("agent", "-m", "hi", *broken).code == 1
    unknown = home.opensoul("agent", "-m", "hi", "--local", "--session-id", "absent")
    assert "absent" in unknown.err
    assert home.opensoul("agent", "-m", "hi", "--local", "--token", "x").code == 2
    hurried = ("--agent", "slow", "--timeout", "0.05")
    assert "longer than the 0.05 s" in home.opensoul("agent", "-m", "hi", "--local", *hurried).err
    other = ("--agent", "slow", "--session-key", "agent:main:x")
    assert "does not match" in home.opensoul("agent", "-m", "hi", "--local", *other).err
    home.configure("{ gateway: { port: 'x' } }")
    refused = home.opensoul("agent", "-m", "hi", "--local", "--json")
    assert refused.json_error["code"] == "config_invalid"


def test_a_local_question_is_refused_beside_a_gateway(beside: Home) -> None:
    refused = beside.opensoul("agent", "-m", "hi", "--local", "--json")
    assert refused.json_error["code"] == "state_locked"
    assert "Or omit --local" in refused.json_error["message"]


@pytest.mark.e2e
def test_a_gateway_is_stopped(tmp_path: Path) -> None:
    with_end = GatewayProcess(tmp_path, CONFIG).start()
    try:
        assert "ends as soon as" in with_end.opensoul("gateway", "stop")
        assert with_end.wait() == 0
    finally:
        with_end.stop()
