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
- `"${NAME}"` in a string is replaced by the environment variable; unset or empty is an error.
  `"${NAME:-text}"` is replaced by the text in that case. `"$${NAME}"` stands for `${NAME}` itself.
- Other things that look like a placeholder, such as `$NAME`, `${env:NAME}`, `%NAME%`, `{{NAME}}`,
  `$(command)` or `<NAME>`, are an error where a placeholder must have been meant: anywhere in URLs,
  paths, headers and ids, and as the whole of a key, a token or a password. A `$` in front says that
  the text itself is meant: `"$$NAME"`, `"$%NAME%"`.
- In free text (`instructions`, `name`, `theme`, and all of `params`) only `${NAME}` and
  `${NAME:-text}` with a name in capital letters are replaced; everything else is text.
- Nothing is replaced in keys that have no effect.
- `env` gives variables a value, where the process has none of that name.
- Paths may begin with `~`; relative ones start at the directory of the main file.

## References to secrets

Wherever a secret is a string (`apiKey`, the value of a header, `token`, `password`) there may be an
object instead:

- `{ source: "env", id: "NAME" }` is the environment variable.
- `{ source: "file", id: "/run/secrets/key" }` is the content of that file, without the end of its
  last line.
- `{ source: "file", provider: "keys", id: "/openai/key" }` is read from the file of
  `secrets.providers.keys`; the id is a JSON pointer, or `value` with mode `singleValue`.

A file must be UTF-8 text that not every user can change, of at most 1 MiB. It is watched like the
configuration. `source: "exec"` is refused: no program is run to get a secret.

## Keys that are not known

The files of the family have many keys that mean nothing here, and each of its releases has more:

- A key of the list at the end of this page, and one that is not known at all, is named in a note at
  the start and by `opensoul doctor`. It does not stop the Gateway.
- A key that is close to one with an effect in the same object, such as `prot` beside `port`, is an
  error: it was meant to have that effect.
- `gateway.auth`, `gateway.tls`, `gateway.shutdown`, `gateway.runs` and `match` in
  `session.sendPolicy` are our own sections: no other program has more keys there, or leaving one
  out would weaken its protection. There, each unknown key is an error.

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
