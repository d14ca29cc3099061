"""The wiring: every part is made for real, and every argument is of its parameter's type."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import pytest
from dependency_injector.providers import Factory, Object, Provider, Singleton

from opensoul.adapters.config import Overrides
from opensoul.adapters.persistence.memory import MemoryRunEvents, MemoryStore
from opensoul.adapters.persistence.sqlite.runs import SqliteRunEvents
from opensoul.adapters.persistence.sqlite.sessions import SqliteStore
from opensoul.adapters.system.files import DeviceFile, MemoryDeviceBook
from opensoul.app import container, factories, plugins
from opensoul.app.container import Container
from opensoul.domain.ports import AgentRunner, NewId, SessionStore

T = TypeVar("T")


class Declared(Generic[T]):
    """In the place of Provider, which forgets its parameter when the program runs."""


PARTS: dict[str, Provider[Any]] = dict(Container.providers)
TYPES = {
    name: get_args(hint)[0]
    for name, hint in get_type_hints(
        Container, globalns={**vars(container), "Provider": Declared}
    ).items()
    if get_origin(hint) is Declared
}
NAMES = {provider: name for name, provider in PARTS.items()}
BY_STORE: dict[str, dict[str, type]] = {
    ":memory:": {
        "store": MemoryStore,
        "run_events": MemoryRunEvents,
        "device_book": MemoryDeviceBook,
        "catalog": MemoryStore,
    },
    "sessions.sqlite3": {
        "store": SqliteStore,
        "run_events": SqliteRunEvents,
        "device_book": DeviceFile,
        "catalog": SqliteStore,
    },
}


def container_in(home: Path, store: str) -> Container:
    """A container of its own home, with nothing replaced but where it looks."""
    path = home / "opensoul.json"
    path.write_text(
        json.dumps(
            {
                "session": {"store": store if store == ":memory:" else str(home / store)},
                "gateway": {"auth": {"token": "a secret of the tests"}},
            }
        )
    )
    return Container(
        overrides=Object(Overrides(config_path=str(path))),
        env=Object({"OPENSOUL_STATE_DIR": str(home / "state")}),
        home=Object(home),
    )


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type: by its class, or by the members that a protocol names."""
    origin = get_origin(kind) or kind
    if isinstance(kind, UnionType):
        return any(fits(value, each) for each in get_args(kind))
    if origin is Callable:
        return callable(value)
    if getattr(origin, "_is_protocol", False):
        return not missing(value, origin)
    return isinstance(value, origin)


def is_a(declared: Any, kind: Any) -> bool:
    """Whether all values of a declared type are of another type."""
    if declared == kind:
        return True
    if isinstance(declared, UnionType):
        return all(is_a(each, kind) for each in get_args(declared))
    if getattr(kind, "_is_protocol", False):
        return not missing(declared, kind)
    return isinstance(declared, type) and isinstance(kind, type) and issubclass(declared, kind)


def missing(value: object, protocol: type) -> list[str]:
    """The members of a protocol that a value, or a class, has not."""
    members = {
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False)
        for name in (*vars(base), *base.__annotations__)
        if name == "__call__" or not name.startswith("_")
    }
    return sorted(name for name in members if not hasattr(value, name))


def test_every_part_has_a_declared_type() -> None:
    assert TYPES.keys() == PARTS.keys()


@pytest.mark.parametrize("store", BY_STORE)
async def test_every_part_is_made_and_is_of_its_type(tmp_path: Path, store: str) -> None:
    parts = container_in(tmp_path, store).providers

    made = {name: provider() for name, provider in parts.items()}

    assert {name: part for name, part in made.items() if not fits(part, TYPES[name])} == {}
    for name, adapter in BY_STORE[store].items():
        assert type(made[name]) is adapter
    assert made["lifecycle"].settings is made["settings"]()


@pytest.mark.parametrize(
    "name", [name for name, provider in PARTS.items() if not isinstance(provider, Object)]
)
def test_every_argument_is_the_provider_of_its_parameter(name: str) -> None:
    """The one of that name; where there is none, one of a type that fits."""
    provider = PARTS[name]
    assert isinstance(provider, Singleton | Factory)
    assert provider.provides is not None
    assert provider.kwargs == {}
    wanted = get_type_hints(provider.provides) if inspect.isfunction(provider.provides) else {}
    wanted.pop("return", None)
    passed = [NAMES[argument] for argument in provider.args]

    assert passed == [
        parameter if parameter in PARTS else used
        for parameter, used in zip(wanted, passed, strict=True)
    ]
    kinds = [(TYPES[used], kind) for used, kind in zip(passed, wanted.values(), strict=True)]
    assert [pair for pair in kinds if not is_a(*pair)] == []


@pytest.mark.parametrize(
    ("declared", "kind", "fit"),
    [
        (MemoryStore, SessionStore, True),
        (MemoryStore | SqliteStore, SessionStore, True),
        (MemoryStore | DeviceFile, SessionStore, False),
        (SessionStore, MemoryStore, False),
        (bool, int, True),
        (Mapping[str, int], Mapping[str, str], False),
    ],
)
def test_the_check_of_declared_types_can_fail(declared: Any, kind: Any, fit: bool) -> None:
    assert is_a(declared, kind) is fit


def test_every_factory_is_used_by_the_part_of_its_name() -> None:
    used = {
        name
        for name, provider in PARTS.items()
        if getattr(provider, "provides", None) is getattr(factories, name, None)
    }
    defined = {
        name
        for module in pkgutil.iter_modules(factories.__path__, f"{factories.__name__}.")
        for name, made in vars(importlib.import_module(module.name)).items()
        if inspect.isfunction(made) and made.__module__ == module.name
    }
    assert defined - used == {"generated_token", "shared_keys", "shared_stores"}


def test_a_replaced_part_reaches_the_parts_that_need_it(tmp_path: Path) -> None:
    store = MemoryStore()
    parts = Container(store=Object(store), home=Object(tmp_path))
    assert parts.store() is store
    assert parts.catalog() is store


def test_there_is_an_adapter_for_each_built_in_runner(tmp_path: Path) -> None:
    def none(group: str) -> tuple[()]:
        return ()

    parts = container_in(tmp_path, ":memory:")
    parts.find_plugins.override(Object(none))
    runners = parts.runners()
    assert all(fits(runners[name], AgentRunner) for name in runners)
    assert tuple(runners) == plugins.BUILT_IN_RUNNERS


@pytest.mark.parametrize(
    ("value", "kind", "fit"),
    [
        (MemoryStore(), SessionStore, True),
        (MemoryDeviceBook(), SessionStore, False),
        (len, NewId, True),
        ("id", NewId, False),
        ({}, Mapping[str, int], True),
        ([], Mapping[str, int], False),
        (None, Path | None, True),
        (1, Path | None, False),
    ],
)
def test_the_check_of_types_can_fail(value: object, kind: Any, fit: bool) -> None:
    assert fits(value, kind) is fit
