"""`import mcm` is light: measured in a fresh process, by the modules that it loads and not by the clock."""

import subprocess
import sys

import pytest

ALLOWED = {"mcm", "numpy", "PIL"}
PILLOW_PLUGINS_AND_EXTRAS = {"ImageDraw", "ImageFont", "ImageFilter", "ImageTk", "ImageQt", "ImageShow"}


def loaded_by(code: str) -> set[str]:
    """The modules in a fresh process after `code`, less those that a bare Python loads."""
    count = "import sys; bare = set(sys.modules); {}; print(*sorted(set(sys.modules) - bare))"
    done = subprocess.run(
        [sys.executable, "-c", count.format(code)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def third_party(modules: set[str]) -> set[str]:
    return {root for root in roots(modules) if root not in sys.stdlib_module_names and root[0] != "_"}


def test_import_mcm_loads_numpy_and_pillow_only() -> None:
    assert third_party(loaded_by("import mcm")) == ALLOWED


def test_import_mcm_loads_the_core_and_no_edge() -> None:
    loaded = loaded_by("import mcm")
    for edge in (
        "mcm.wire",
        "mcm.client",
        "mcm.cli",
        "mcm.metrics",
        "mcm.encoders.clip",
        "mcm.encoders.builtin",
    ):
        assert edge not in loaded


def test_import_mcm_loads_little_of_pillow() -> None:
    loaded = {name.removeprefix("PIL.") for name in loaded_by("import mcm") if name.startswith("PIL.")}
    assert "Image" in loaded
    assert not loaded & PILLOW_PLUGINS_AND_EXTRAS


def test_a_calibration_loads_the_light_part_of_scipy_only() -> None:
    loaded = loaded_by("import mcm; mcm.calibrate([0.1, 0.2, 0.3], 'hash', false_alarm_rate=0.5)")
    assert "scipy.special" in loaded
    assert "scipy.stats" not in loaded  # three times as slow to import


def test_judging_loads_nothing_more_than_import_mcm() -> None:
    code = (
        "import mcm; d = mcm.Detector(mcm.define(['a', 'b']), 'f', mcm.unit_rows([[1, 0], [0, 1]]));"
        "d.judge(mcm.unit_rows([[1, 1]]))"
    )
    assert third_party(loaded_by(code)) == ALLOWED


@pytest.mark.parametrize("module", ["torch", "httpx", "pydantic", "scipy", "typer", "rich", "sklearn"])
def test_import_mcm_never_loads(module: str) -> None:
    assert module not in roots(loaded_by("import mcm"))
