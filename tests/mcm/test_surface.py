"""The public surface: what `mcm` exports, and the tree of its errors."""

import inspect
import pickle
import re
from types import ModuleType

import pytest

import mcm
from mcm import errors

ERRORS = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.McmError)
]


def test_all_is_sorted_and_is_exactly_what_is_exported() -> None:
    exported = {
        name
        for name, value in vars(mcm).items()
        if not isinstance(value, ModuleType) and (not name.startswith("_") or name == "__version__")
    }
    assert set(mcm.__all__) == exported
    assert len(mcm.__all__) == len(exported)


def test_all_is_in_order_constants_then_classes_then_the_rest() -> None:
    def group(name: str) -> int:
        return 0 if name.isupper() else 1 if name[0].isupper() else 2

    assert mcm.__all__ == sorted(mcm.__all__, key=lambda name: (group(name), name))


@pytest.mark.parametrize("name", [name for name in mcm.__all__ if callable(getattr(mcm, name))])
def test_everything_public_says_what_it_is(name: str) -> None:
    assert (inspect.getdoc(getattr(mcm, name)) or "").strip()


def test_the_version_is_a_release_number() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", mcm.__version__)


def test_every_error_stands_in_the_tree_under_its_parent() -> None:
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    parents: dict[int, str] = {}
    drawn: dict[str, str | None] = {}
    for line in tree.splitlines():
        if match := re.match(r"((?:\|   |    )*(?:\+-- )?)([A-Z]\w+)", line):
            depth = len(match[1]) // 4
            parents[depth] = match[2]
            drawn[match[2]] = parents.get(depth - 1)
    real = {error.__name__: error.__bases__[0].__name__ for error in ERRORS}
    assert drawn == {**real, "McmError": None}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_comes_whole_out_of_another_process(error: type[errors.McmError]) -> None:
    special: dict[type[errors.McmError], errors.McmError] = {
        errors.TooFewScores: errors.TooFewScores("too few", needed=19),
        errors.MissingExtra: errors.MissingExtra("eval", "AUROC"),
    }
    made = special.get(error) or error("what was wrong")
    back = pickle.loads(pickle.dumps(made))
    assert type(back) is error
    assert str(back) == str(made)
    assert vars(back) == vars(made)


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    message = str(errors.MissingExtra("clip", "the encoder ViT-B-16/openai"))
    assert message == "the encoder ViT-B-16/openai needs an extra: pip install 'mcm-ood[clip]'"


def test_bad_input_can_be_caught_as_a_value_error() -> None:
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.MissingExtra, ImportError)
