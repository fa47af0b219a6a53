import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mcm import Detector, build_detector, define
from mcm.errors import DefinitionMismatch, EncoderMismatch, InvalidInput
from mcm.evaluation import DataSet, Evaluation, evaluate
from mcm.evaluation.outputs import write_outputs
from mcm.metrics import metrics
from tests.fakes import ColourEncoder, PatchColourEncoder
from tests.shared import shared

SETS = ("iNaturalist", "Sun", "Places", "Texture")


def scores_csv(path: Path, scores: object) -> Path:
    path.write_text("score\n" + "".join(f"{float(score)!r}\n" for score in np.asarray(scores)))
    return path


@pytest.fixture
def id_set(tmp_path: Path) -> DataSet:
    return paint(tmp_path / "known", [(1 - i / 50, i / 80, 0) for i in range(12)])


@pytest.fixture
def ood_set(tmp_path: Path) -> DataSet:
    return paint(tmp_path / "other", [(0, i / 50, 1 - i / 40) for i in range(9)])


def paint(folder: Path, colours: list[tuple[float, float, float]]) -> DataSet:
    """A folder of images in two subfolders."""
    for i, colour in enumerate(colours):
        path = folder / f"class {i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), tuple(round(255 * c) for c in colour)).save(path)
    return DataSet(folder.name, folder)


def detectors(encoder: ColourEncoder, *scores: str) -> list[Detector]:
    return [build_detector(define(["red", "yellow"], score=score), encoder) for score in scores or ("mcm",)]


# ---- tables of scores


@pytest.mark.parametrize("name", ["ViT-B-16_mcm", "ViT-L-14_gl-mcm"])
def test_the_published_scores_give_the_published_figures(tmp_path: Path, name: str) -> None:
    """`python -m benchmarks.published` does it with all four files through the command."""
    data = np.load(shared(f"published_scores/{name}.npz"))
    expected = json.loads(shared("published_scores/expected.json").read_text())[name]["sets"]
    id_set = DataSet("ImageNet", scores_csv(tmp_path / "id.csv", data["id_ImageNet1K"]))
    ood = [DataSet(s, scores_csv(tmp_path / f"{s}.csv", data[f"ood_{s}"])) for s in SETS]
    found = evaluate(id_set, ood, draws=2)
    for set_name, figures in expected.items():
        made = found.results[0].sets[set_name]
        assert made.n == figures["n"]
        assert made.metrics.auroc == pytest.approx(figures["auroc"], abs=1e-12)
        assert made.metrics.aupr == pytest.approx(figures["aupr"], abs=1e-12)
        assert made.metrics.fpr95 == figures["fpr95_id_positive"]
        assert made.metrics.fpr95_ood_positive == figures["fpr95_ood_positive"]


def test_the_average_is_over_sets_and_has_an_interval_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    id_scores, ood = rng.normal(1, 1, 200), [rng.normal(m, 1, 50 + 100 * m) for m in (0, 1)]
    sets = [DataSet(f"s{i}", scores_csv(tmp_path / f"{i}.csv", scores)) for i, scores in enumerate(ood)]
    found = evaluate(DataSet("id", scores_csv(tmp_path / "id.csv", id_scores)), sets, draws=300)
    one, two = (metrics(id_scores, scores) for scores in ood)
    average = found.results[0].average
    assert average.n == 200
    assert average.metrics.auroc == pytest.approx((one.auroc + two.auroc) / 2)
    assert average.intervals.low.auroc < average.metrics.auroc < average.intervals.high.auroc
    widths = [s.intervals.high.auroc - s.intervals.low.auroc for s in found.results[0].sets.values()]
    assert average.intervals.high.auroc - average.intervals.low.auroc < max(widths)


def test_names_that_are_not_utf_8_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"name": "\\ud800", "score": 1}\n{"name": "b", "score": null, "error": "\\ud801"}\n')
    found = evaluate(DataSet("a\udcff", path), [DataSet("ood", path)], draws=2)
    write_outputs(found, tmp_path / "out")
    assert "a\\udcff against ood" in (tmp_path / "out/report.html").read_text()
    assert json.loads((tmp_path / "out/metrics.json").read_text())["id"]["name"] == "a\\udcff"
    assert found.lowest_id[0].name == "\\ud800"
    assert found.id_set.failures == (("b", "\\ud801"),)


def test_the_json_has_sets_and_average_of_the_first_result_and_all_results(tmp_path: Path) -> None:
    path = scores_csv(tmp_path / "x.csv", [1, 2, 3])
    data = evaluate(DataSet("id", path), [DataSet("ood", path)], draws=5).to_json()
    assert data["sets"]["ood"]["auroc"] == 0.5
    assert set(data["sets"]["ood"]) >= {"n", "auroc", "aupr", "fpr95", "fpr95_ood_positive", "intervals"}
    assert data["results"][0]["average"] == data["average"]
    assert json.loads(json.dumps(data)) == data


# ---- images and embeddings


def test_folders_of_images_give_the_metrics_of_the_detectors_scores(
    id_set: DataSet, ood_set: DataSet
) -> None:
    encoder = ColourEncoder()
    both = detectors(encoder, "mcm", "energy")
    found = evaluate(id_set, [ood_set], detectors=both, encoder=encoder, draws=5)
    assert [(r.score, r.temperature) for r in found.results] == [("mcm", 1.0), ("energy", 1.0)]
    assert (found.id_set.used, found.ood_sets[0].used) == (12, 9)
    for detector, result in zip(both, found.results, strict=True):
        assert result.id_scores == pytest.approx(detector.scores(_embeddings(id_set, encoder)), abs=1e-6)
        expected = metrics(result.id_scores, result.ood_scores["other"])
        assert result.sets["other"].metrics == expected


def _embeddings(data_set: DataSet, encoder: ColourEncoder) -> np.ndarray:
    images = [Image.open(path) for path in sorted(data_set.path.rglob("*.png"))]
    return encoder.encode_images(np.stack([encoder.prepare(image) for image in images]))


def test_embeddings_stay_and_are_not_made_again(id_set: DataSet, ood_set: DataSet, tmp_path: Path) -> None:
    first, second = ColourEncoder(), ColourEncoder()
    for encoder in (first, second):
        found = evaluate(
            id_set, [ood_set], detectors=detectors(encoder), encoder=encoder, work=tmp_path / "work", draws=5
        )
    assert sum(first.batches) == 21
    assert second.batches == []
    assert found.id_set.used == 12


def test_another_encoder_has_embeddings_of_its_own(id_set: DataSet, ood_set: DataSet, tmp_path: Path) -> None:
    for fingerprint in ("colours-1", "colours-2"):
        encoder = ColourEncoder(fingerprint)
        evaluate(
            id_set, [ood_set], detectors=detectors(encoder), encoder=encoder, work=tmp_path / "work", draws=5
        )
        assert sum(encoder.batches) == 21


def test_bad_images_are_counted_and_never_fatal(id_set: DataSet, ood_set: DataSet) -> None:
    (id_set.path / "class 0" / "zz.png").write_bytes(b"not an image")
    (ood_set.path / "class 1" / "01.png").write_bytes(b"")
    encoder = ColourEncoder()
    found = evaluate(id_set, [ood_set], detectors=detectors(encoder), encoder=encoder, draws=5)
    assert (found.id_set.used, found.id_set.failed) == (12, 1)
    assert (found.ood_sets[0].used, found.ood_sets[0].failed) == (8, 1)
    assert found.id_set.failures[0][0] == "class 0/zz.png"
    assert found.to_json()["failed"] == {"other": 1}


def test_the_images_that_the_score_gets_most_wrong_come_first(id_set: DataSet, ood_set: DataSet) -> None:
    encoder = ColourEncoder()
    found = evaluate(id_set, [ood_set], detectors=detectors(encoder), encoder=encoder, draws=5)
    lowest, highest = found.lowest_id, found.highest_ood["other"]
    assert [one.score for one in lowest] == sorted(found.results[0].id_scores)
    assert [one.score for one in highest] == sorted(found.results[0].ood_scores["other"], reverse=True)
    assert lowest[0].path is not None
    assert lowest[0].path.is_file()
    assert str(lowest[0].path).endswith(lowest[0].name)


def test_progress_is_told_for_each_set(id_set: DataSet, ood_set: DataSet) -> None:
    seen: list[tuple[str, int, int]] = []
    encoder = ColourEncoder()
    evaluate(
        id_set,
        [ood_set],
        detectors=detectors(encoder),
        encoder=encoder,
        draws=5,
        watch=lambda *told: seen.append(told),
    )
    assert seen[0] == ("known", 0, 12)
    assert ("known", 12, 12) in seen
    assert seen[-1] == ("other", 9, 9)


def embeddings_table(path: Path, rows: np.ndarray, fingerprint: str) -> DataSet:
    columns = {"embedding": list(rows), "fingerprint": [fingerprint] * len(rows)}
    pq.write_table(pa.table(columns), path)
    return DataSet(path.stem, path)


@pytest.fixture
def tables(tmp_path: Path, id_set: DataSet, ood_set: DataSet) -> Callable[[str], tuple[DataSet, DataSet]]:
    def write(fingerprint: str) -> tuple[DataSet, DataSet]:
        rows = [_embeddings(data_set, ColourEncoder()) for data_set in (id_set, ood_set)]
        known, other = (
            embeddings_table(tmp_path / f"{name}.parquet", r, fingerprint)
            for name, r in zip(("known", "other"), rows, strict=True)
        )
        return known, other

    return write


def test_tables_of_embeddings_need_no_encoder_and_give_the_same(
    tables: Callable[[str], tuple[DataSet, DataSet]], id_set: DataSet, ood_set: DataSet
) -> None:
    known, other = tables("colours-1")
    encoder = ColourEncoder()
    of_tables = evaluate(known, [other], detectors=detectors(encoder), draws=5)
    of_images = evaluate(id_set, [ood_set], detectors=detectors(encoder), encoder=encoder, draws=5)
    assert of_tables.results[0].sets["other"] == of_images.results[0].sets["other"]


def test_embeddings_of_another_encoder_are_refused(tables: Callable[[str], tuple[DataSet, DataSet]]) -> None:
    known, other = tables("another")
    with pytest.raises(EncoderMismatch, match="known were made by another encoder"):
        evaluate(known, [other], detectors=detectors(ColourEncoder()))


# ---- gl-mcm


def test_gl_mcm_is_scored_with_the_patches_of_the_images_which_are_kept(
    id_set: DataSet, ood_set: DataSet, tmp_path: Path
) -> None:
    first, second = PatchColourEncoder(), PatchColourEncoder()
    found: list[Evaluation] = []
    for encoder in (first, second):
        both = detectors(encoder, "mcm", "gl-mcm")
        found.append(
            evaluate(id_set, [ood_set], detectors=both, encoder=encoder, work=tmp_path / "w", draws=5)
        )
    assert second.batches == []
    mcm, gl_mcm = (result.id_scores for result in found[1].results)
    # every image has one colour, so each patch is as its image: gl-mcm = mcm + 0.5 mcm
    assert gl_mcm == pytest.approx(1.5 * mcm, rel=1e-6)


def test_gl_mcm_needs_images(tables: Callable[[str], tuple[DataSet, DataSet]]) -> None:
    known, other = tables("colours-1")
    with pytest.raises(InvalidInput, match=r"'gl-mcm' needs the patches .* give the folder of images"):
        evaluate(known, [other], detectors=detectors(PatchColourEncoder(), "gl-mcm"))


# ---- what is refused


def test_scores_that_do_not_compare_are_refused(tmp_path: Path, id_set: DataSet) -> None:
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    one.write_text("score,definition_hash\n1,aaa\n")
    two.write_text("score,definition_hash\n0,bbb\n")
    with pytest.raises(DefinitionMismatch, match="different definitions"):
        evaluate(DataSet("id", one), [DataSet("ood", two)])
    with pytest.raises(InvalidInput, match="others are not"):
        evaluate(DataSet("id", one), [id_set])
    with pytest.raises(InvalidInput, match="nothing to score"):
        evaluate(DataSet("id", one), [DataSet("ood", one)], detectors=detectors(ColourEncoder()))


def test_sets_that_cannot_be_measured_are_refused(tmp_path: Path, id_set: DataSet, ood_set: DataSet) -> None:
    encoder = ColourEncoder()
    with pytest.raises(InvalidInput, match="at least one set of OOD images"):
        evaluate(id_set, [])
    with pytest.raises(InvalidInput, match="the name known is given to two sets"):
        evaluate(id_set, [DataSet("known", ood_set.path)])
    with pytest.raises(InvalidInput, match="give the concepts or a detector"):
        evaluate(id_set, [ood_set])
    with pytest.raises(InvalidInput, match="an encoder is needed"):
        evaluate(id_set, [ood_set], detectors=detectors(encoder))
    (tmp_path / "empty").mkdir()
    empty = DataSet("empty", tmp_path / "empty")
    with pytest.raises(InvalidInput, match="empty has no image that could be used"):
        evaluate(id_set, [empty], detectors=detectors(encoder), encoder=encoder)
