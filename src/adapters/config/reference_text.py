"""What the reference page says before it comes to the keys."""

INTRODUCTION = """\
# Configuration

This page is generated from the schema (`python -m opensoul.adapters.config.reference`).
`config/opensoul.example.json5` shows the same keys as a file.

## Where it is read from

The file is JSON5: comments, trailing commas and unquoted keys are fine. The first of these is read:

1. `--config <path>`
2. `OPENSOUL_CONFIG_PATH`, then `OPENCLAW_CONFIG_PATH`
3. `opensoul.json` (then `openclaw.json`, `clawdbot.json`, `moltbot.json`, `moldbot.json`) in the
   state directory, then in `~/.opensoul`, `~/.openclaw`, `~/.clawdbot`, `~/.moltbot`, `~/.moldbot`

The state directory is `OPENSOUL_STATE_DIR`, then `OPENCLAW_STATE_DIR`, then the first of those
directories that exists, else `~/.opensoul`. A file that was named has to exist. Without any file,
the agent `main` is there and the chat endpoint is off.

## Several files, and variables

- `{ $include: "./agents.json5" }` is replaced by that file's content; a list of paths merges
  several. Keys beside `$include` win over the included ones; objects are merged, lists are joined.
  Relative paths start at the including file. Files may include one another ten deep.
- `"${NAME}"` in a string is replaced by the environment variable (capital letters, digits, `_`);
  unset or empty is an error. `"$${NAME}"` stands for `${NAME}` itself.
- `env` gives variables a value, where the process has none of that name.
- Paths may begin with `~`; relative ones start at the directory of the main file.

## What wins

| | order |
|---|---|
| port | `--port`, `OPENSOUL_GATEWAY_PORT`, `OPENCLAW_GATEWAY_PORT`, `gateway.port`, 18789 |
| token | `--token`, `gateway.auth.token`, `OPENSOUL_GATEWAY_TOKEN` (`OPENCLAW_...`), generated |
| password | `--password`, `gateway.auth.password`, then the same two with `_PASSWORD` |
| bind, mode | `--bind`, `--auth`, then the file |
| proxy | `models.providers.*.proxy`, `NO_PROXY`, `HTTPS_PROXY` or `HTTP_PROXY`, `ALL_PROXY` |

## When a file changes

A changed file (included ones too) is checked and put in force as a whole, while requests go on;
what is in flight keeps the settings it started with. An invalid file is reported, and the last good
one stays in force. Keys marked *restart* are in force after the next start. `gateway.reload` says
otherwise where that is not wanted.
"""
