"""Both clients offer the same, and cost little to import."""

import inspect
import subprocess
import sys
from typing import Any

import pytest

import mcm.client
from mcm.client import AsyncClient, Client
from mcm.client.errors import error_class

OWN_NAMES = {"close", "aclose"}


def methods(client: type) -> dict[str, Any]:
    return {name: method for name, method in vars(client).items() if not name.startswith("_")}


def arguments(method: Any) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]


def test_both_clients_have_the_same_methods() -> None:
    assert methods(Client).keys() ^ methods(AsyncClient).keys() == OWN_NAMES


@pytest.mark.parametrize("name", sorted(methods(Client).keys() - OWN_NAMES))
def test_both_clients_take_the_same_arguments(name: str) -> None:
    assert arguments(methods(Client)[name]) == arguments(methods(AsyncClient)[name])


@pytest.mark.parametrize("name", sorted(methods(Client).keys() - OWN_NAMES))
def test_what_is_an_iterator_here_is_an_async_one_there_and_all_else_is_awaited(name: str) -> None:
    given = str(inspect.signature(methods(Client)[name]).return_annotation)
    other = methods(AsyncClient)[name]
    if "Iterator" in given:
        assert "AsyncGenerator" in str(inspect.signature(other).return_annotation)
    else:
        assert inspect.iscoroutinefunction(other)


def test_both_clients_are_made_with_the_same_arguments() -> None:
    assert arguments(Client) == arguments(AsyncClient)


def test_the_public_names_exist_and_are_sorted() -> None:
    assert mcm.client.__all__ == sorted(mcm.client.__all__)
    assert all(hasattr(mcm.client, name) for name in mcm.client.__all__)


def test_importing_the_client_never_loads_torch_or_the_server() -> None:
    code = "import sys, mcm.client; print({'torch', 'fastapi', 'app', 'typer'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_error_class_of_a_status_is_in_the_tree_that_the_docstring_draws() -> None:
    drawn = mcm.client.errors.__doc__ or ""
    for status in range(400, 600):
        assert error_class(status).__name__ in drawn


def test_every_public_method_says_what_it_does() -> None:
    assert all(method.__doc__ for method in methods(Client).values())
