"""What the SDK does with any number of images at once: the FDR, and what to look at after calibrating."""

from collections.abc import Iterator
from typing import Any

import pytest

from mcm import wire
from mcm.client import ClientError, DefinitionChanged, InvalidArgument, core_calibration
from mcm.errors import NotCalibrated
from tests.mcm.client.conftest import Connect
from tests.mcm.client.fake_service import FakeService, calibration

# an image's score is its number of bytes
KNOWN = [float(score) for score in range(100, 300)]


def images(*sizes: int) -> list[bytes]:
    return [b"x" * size for size in sizes]


def calibrated() -> FakeService:
    service = FakeService()
    service.calibration_scores = KNOWN
    return service


def test_the_fdr_is_kept_once_over_all_images(connect: Connect) -> None:
    service = calibrated()
    odd, usual = images(*[1] * 50), images(*[200] * 50)
    answer = connect(service).discover("pets", [*odd, *usual, "/nowhere.jpg", b"bad"], q=0.1)
    assert service.roads.count("POST /v1/detectors/pets/score") > 1
    assert [result.discovery for result in answer.results] == [True] * 50 + [False] * 50 + [None] * 2
    assert [result.index for result in answer.results] == list(range(102))
    assert answer.fdr == wire.Fdr(
        q=0.1, method="benjamini-hochberg", m=100, discoveries=50, smallest_possible=5
    )
    assert [warning.code for warning in answer.warnings] == ["few-calibration-scores"]
    assert (answer.detector, answer.threshold) == ("pets", 0.5)


def test_storeys_variant_finds_more(connect: Connect) -> None:
    sizes = [120] * 60 + [250] * 10  # p-values of 0.11 and 0.76
    found = [
        connect(calibrated()).discover("pets", images(*sizes), q=0.12, method=method).fdr
        for method in ("benjamini-hochberg", "storey")
    ]
    assert [fdr.discoveries for fdr in found] == [0, 60]


def test_nothing_is_scored_where_there_are_no_p_values(connect: Connect) -> None:
    service = FakeService()
    with pytest.raises(ClientError, match="no calibration scores") as caught:
        connect(service).discover("pets", images(1), q=0.1)
    assert isinstance(caught.value, NotCalibrated)
    assert "POST /v1/detectors/pets/score" not in service.roads


@pytest.mark.parametrize("wrong", [{"q": 0}, {"q": 1}, {"q": 0.1, "method": "bh"}])
def test_a_wrong_fdr_is_refused_before_images_are_sent(connect: Connect, wrong: dict[str, Any]) -> None:
    service = calibrated()
    with pytest.raises(InvalidArgument, match="fdr"):
        connect(service).discover("pets", images(1), **wrong)
    assert "POST /v1/detectors/pets/score" not in service.roads


def test_p_values_of_two_calibrations_are_never_mixed(connect: Connect) -> None:
    service = calibrated()

    def changing() -> Iterator[bytes]:
        for i in range(64):
            if i == 40:
                service.revision = 8
            yield b"x"

    with pytest.raises(DefinitionChanged, match="revision 7, then 8"):
        connect(service, max_in_flight=1).discover("pets", changing(), q=0.1)


def test_a_batch_without_a_good_image_has_no_discoveries(connect: Connect) -> None:
    answer = connect(calibrated()).discover("pets", [b"bad", "/nowhere.jpg"], q=0.1)
    assert [result.error is None for result in answer.results] == [False, False]
    assert (answer.fdr.m, answer.fdr.discoveries) == (0, 0)


def test_copies_and_the_lowest_scores_among_calibration_images_are_named(connect: Connect) -> None:
    given = [("a.jpg", b"xx"), ("bad.jpg", b"bad"), ("b.jpg", b"x"), ("bad2.jpg", b"bad"), ("c.jpg", b"xx")]
    made = connect(calibrated()).calibrate("pets", given)
    assert [(entry.index, entry.name, entry.score) for entry in made.lowest] == [
        (2, "b.jpg", 1),
        (0, "a.jpg", 2),
        (4, "c.jpg", 2),
    ]
    (warning,) = made.warnings
    assert "1 calibration images are copies of others (a.jpg = c.jpg)" in warning.message


def test_only_options_that_were_given_are_sent(connect: Connect) -> None:
    service = calibrated()
    client = connect(service)
    client.calibrate("pets", images(1, 2))
    client.calibrate("pets", images(1, 2), method="pac", confidence=0.9, append=True)
    first, second = (asked.json for asked in service.asked if asked.path.endswith("/calibrate"))
    assert first.keys() == {"scores", "definition_hash"}
    assert second.keys() == {"scores", "definition_hash", "concepts", "method", "confidence", "append"}


def test_a_calibration_as_the_service_gives_it_compares_as_the_librarys_own() -> None:
    given = calibration([3, 1, 2], "hash-1") | {"groups": {"concepts": ["b", "a", "a"], "minimum": 2}}
    made = core_calibration(wire.Calibration.model_validate(given))
    assert made.scores.tolist() == [1, 2, 3]
    p = made.p_values([0, 0], ["a", "b"])
    assert p is not None
    assert p.tolist() == [1 / 3, 1 / 4]  # one b of three scores: judged among all
