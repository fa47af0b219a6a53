import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcm.bootstrap import intervals
from mcm.evaluation import Evaluation, Extreme, ScoreResult, SetCount, SetMetrics
from mcm.evaluation.html import html_report
from mcm.evaluation.outputs import metrics_csv, write_outputs
from mcm.evaluation.paper import FIGURES, compare, read_without_orientation
from mcm.evaluation.plots import KINDS, accepted, draw, thresholds_of
from mcm.images import load_image
from mcm.metrics import metrics

RNG = np.random.default_rng(0)


def result(
    score: str | None = "mcm", temperature: float | None = 1.0, names: tuple[str, ...] = ("SUN",)
) -> ScoreResult:
    id_scores, ood = RNG.normal(1, 1, 100), RNG.normal(0, 1, 80)
    found = SetMetrics(80, metrics(id_scores, ood), intervals(id_scores, ood, draws=20))
    sets = dict.fromkeys(names, found)
    return ScoreResult(score, temperature, sets, found, id_scores, dict.fromkeys(names, ood))


def evaluation(tmp_path: Path, name: str = "a.png") -> Evaluation:
    Image.new("RGB", (400, 300), "red").save(tmp_path / "a.png")
    gone = Extreme("gone.png", tmp_path / "gone.png", 0.1)
    lowest = (Extreme(name, tmp_path / "a.png", 0.25), gone, Extreme("embedding", None, 0.5))
    return Evaluation(
        SetCount("ImageNet", 100, 1, (("bad.png", "truncated"),)),
        (SetCount("SUN", 80, 0),),
        "ViT-B-16/openai",
        (result(), result("energy", 0.01)),
        lowest,
        {"SUN": lowest},
    )


def report(found: Evaluation) -> str:
    return html_report(found, [draw(one, "ImageNet") for one in found.results])


class Links(HTMLParser):
    """The addresses that a page would load, and whether it has scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    page = Links()
    page.feed(report(evaluation(tmp_path)))
    assert len(page.addresses) == 2 * len(KINDS) + 2  # plots of two results, one thumbnail in each group
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe"}


def test_the_report_shows_tables_and_names(tmp_path: Path) -> None:
    text = report(evaluation(tmp_path))
    for told in ("ImageNet against SUN", "energy, T = 0.01", "gone.png", "truncated", "ViT-B-16/openai"):
        assert told in text


def test_names_of_images_cannot_speak_html(tmp_path: Path) -> None:
    text = report(evaluation(tmp_path, name="<script>alert(1)</script>$title.png"))
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$title.png" in text


def test_all_files_are_written(tmp_path: Path) -> None:
    found = evaluation(tmp_path)
    write_outputs(found, tmp_path / "deep" / "out")
    written = {str(path.relative_to(tmp_path / "deep/out")) for path in (tmp_path / "deep").rglob("*.*")}
    plots = {
        f"plots/{slug}-{kind}.{f}"
        for slug in ("mcm-t1", "energy-t0.01")
        for kind in KINDS
        for f in ("png", "svg")
    }
    assert written == {"metrics.json", "metrics.csv", "report.html", *plots}
    assert json.loads((tmp_path / "deep/out/metrics.json").read_text()) == found.to_json()


def test_the_csv_has_every_digit_of_every_row(tmp_path: Path) -> None:
    found = evaluation(tmp_path)
    rows = list(csv.DictReader(metrics_csv(found).splitlines()))
    assert [(r["score"], r["set"]) for r in rows] == [
        ("mcm", "SUN"),
        ("mcm", "average"),
        ("energy", "SUN"),
        ("energy", "average"),
    ]
    first = found.results[0].sets["SUN"]
    assert float(rows[0]["fpr95"]) == first.metrics.fpr95
    assert float(rows[0]["auroc_high"]) == first.intervals.high.auroc


def test_plots_are_pictures_and_the_same_each_time() -> None:
    found = result()
    first, again = draw(found, "ID"), draw(found, "ID")
    assert list(first) == list(KINDS)
    assert first == again
    for picture in first.values():
        assert picture.png.startswith(b"\x89PNG")
        assert b"<svg" in picture.svg
        assert b"<dc:date>" not in picture.svg


@pytest.mark.parametrize("name", ["$\\frac$", "_x", "a_b^c"])
def test_names_of_sets_are_drawn_as_they_are(name: str) -> None:
    for picture in draw(result(names=(name,)), "ID").values():
        assert name.encode() in picture.svg  # what is drawn as paths is told in a comment


def test_a_small_set_far_from_the_others_is_drawn() -> None:
    found = result()
    one = ScoreResult("mcm", 1.0, found.sets, found.average, found.id_scores, {"SUN": np.array([-9.0, 99.0])})
    assert list(draw(one, "ID")) == list(KINDS)  # and no warning of a share of nothing


def test_scores_that_are_all_equal_can_be_drawn() -> None:
    ones, found = np.ones(5), result()
    same = ScoreResult("mcm", 1.0, found.sets, found.average, ones, {"SUN": ones})
    assert list(draw(same, "ID")) == list(KINDS)


def test_curves_follow_the_scores_in_few_points() -> None:
    scores = np.arange(100_000) / 100_000
    thresholds = thresholds_of(scores)
    assert thresholds.size < 1000
    assert accepted(scores, thresholds)[[0, -1]].tolist() == [1, 0]
    assert accepted(scores, np.array([0.25])) == pytest.approx([0.75])


# ---- the paper


def test_the_papers_averages_are_those_of_its_sets() -> None:
    for figures in FIGURES.values():
        sets = [figure for name, figure in figures.items() if name != "average"]
        assert np.mean([figure.fpr95 for figure in sets]) == pytest.approx(
            figures["average"].fpr95, abs=0.006
        )
        assert np.mean([figure.auroc for figure in sets]) == pytest.approx(
            figures["average"].auroc, abs=0.006
        )


def test_only_mcm_at_temperature_1_on_the_papers_sets_is_compared() -> None:
    four = ("iNaturalist", "SUN", "places365", "dtd")
    assert len(compare(result(names=four), "ViT-B-16")) == 5
    assert len(compare(result(None, None, names=four), "ViT-L-14")) == 5
    assert [row.name for row in compare(result(names=("SUN", "mine")), "ViT-B-16")] == ["SUN"]
    assert compare(result("energy", 1.0, names=four), "ViT-B-16") == []
    assert compare(result("mcm", 0.01, names=four), "ViT-B-16") == []


def test_the_authors_did_not_look_at_the_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.jpg"
    Image.new("RGB", (40, 20), "red").save(path, exif=exif)
    assert load_image(path.read_bytes()).size == (20, 40)
    assert load_image(read_without_orientation(path)).size == (40, 20)
    Image.new("RGB", (40, 20)).save(tmp_path / "x.png")
    assert read_without_orientation(tmp_path / "x.png") == (tmp_path / "x.png").read_bytes()
