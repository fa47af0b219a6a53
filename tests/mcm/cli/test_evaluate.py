"""`mcm evaluate`, and `score` and `calibrate` from embeddings."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mcm.detector_file import read_detector_file
from tests.mcm.cli.conftest import Run, paint

ID_ = ("--concepts", "red,yellow")


@pytest.fixture
def others(here: Path) -> Path:
    """Twenty images, from blue to nearly green."""
    for shade in range(20):
        paint(here / "others" / f"{shade:02}.png", (0, shade / 40, 1 - shade / 60))
    return Path("others")


@pytest.fixture
def sets(reds: Path, others: Path) -> tuple[str, ...]:
    return ("--id", f"reds={reds}", "--ood", f"others={others}")


@pytest.fixture
def tables(run: Run, reds: Path, others: Path) -> tuple[str, ...]:
    for folder in (reds, others):
        assert run("embed", folder, "--out", f"{folder}.parquet").code == 0
    return ("--id", "reds=reds.parquet", "--ood", "others=others.parquet")


def test_folders_give_a_table_a_report_and_files(run: Run, sets: tuple[str, ...]) -> None:
    ended = run("evaluate", *sets, *ID_, "--out", "out", "--json", "all.json")
    assert ended.code == 0
    head, row, average = (line.split("\t") for line in ended.out.splitlines())
    assert head == ["score", "set", "images", "AUROC", "AUPR", "FPR95", "FPR95, OOD positive"]
    assert row[:3] == ["mcm, T = 1", "others", "20"]
    assert average[1] == "average"
    data = json.loads(Path("all.json").read_text())
    assert row[3].startswith(f"{100 * data['sets']['others']['auroc']:.2f} [")
    assert json.loads(Path("out/metrics.json").read_text()) == data
    assert Path("out/metrics.csv").read_text().startswith("score,temperature,set,n,auroc,aupr,fpr95,")
    assert {path.name for path in Path("out/plots").iterdir()} == {
        f"mcm-t1-{kind}.{suffix}"
        for kind in ("distributions", "roc", "thresholds")
        for suffix in ("png", "svg")
    }
    assert Path("out/report.html").stat().st_size > 10_000
    assert "open out/report.html" in ended.err


def test_json_on_stdout_is_all_that_is_there(run: Run, sets: tuple[str, ...]) -> None:
    data = json.loads(run("evaluate", *sets, *ID_, "--json", "-").out)
    assert set(data["sets"]["others"]) >= {"auroc", "aupr", "fpr95", "fpr95_ood_positive", "intervals"}
    assert data["id"] == {"name": "reds", "n": 30, "failed": 0}


def test_scores_and_temperatures_are_compared(run: Run, sets: tuple[str, ...]) -> None:
    options = ("--score", "mcm,max-logit,gl-mcm", "--temperature", "1,0.01", "--json", "-")
    data = json.loads(run("evaluate", *sets, *ID_, *options).out)
    found = [(result["score"], result["temperature"]) for result in data["results"]]
    # max-logit knows no temperature
    assert found == [("mcm", 1), ("mcm", 0.01), ("max-logit", 1), ("gl-mcm", 1), ("gl-mcm", 0.01)]
    assert data["sets"] == data["results"][0]["sets"]


def test_neglabel_brings_its_own_words(run: Run, sets: tuple[str, ...]) -> None:
    Path("words.txt").write_text("green\nblue\nblack\n" + "\n".join(f"word {i}" for i in range(60)))
    options = ("--score", "mcm,neglabel", "--vocabulary", "words.txt", "--json", "-")
    data = json.loads(run("evaluate", *sets, *ID_, *options).out)
    assert [(r["score"], r["temperature"]) for r in data["results"]] == [("mcm", 1), ("neglabel", 0.01)]


def test_tables_of_embeddings_give_what_their_images_give(
    run: Run, sets: tuple[str, ...], tables: tuple[str, ...]
) -> None:
    of_images = json.loads(run("evaluate", *sets, *ID_, "--json", "-").out)
    of_tables = json.loads(run("evaluate", *tables, *ID_, "--json", "-").out)
    assert of_tables["results"] == of_images["results"]


def test_a_detector_file_and_embeddings_need_no_encoder(
    run: Run, tables: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("detector", "create", "--detector-file", "d.json", *ID_).code == 0
    monkeypatch.setenv("MCM_ENCODER", "another")  # it would be refused, if it were asked
    ended = run(
        "evaluate", *tables, "--detector-file", "d.json", "--score", "mcm,energy", "--json", "-", "--out", "o"
    )
    assert ended.code == 0
    assert [r["score"] for r in json.loads(ended.out)["results"]] == ["mcm", "energy"]
    assert run("score", "reds.parquet", "--detector-file", "d.json", "--json", "-").code == 0
    assert run("calibrate", "reds.parquet", "--detector-file", "d.json").code == 0


def test_a_stopped_evaluation_goes_on(run: Run, sets: tuple[str, ...], reds: Path) -> None:
    assert run("evaluate", *sets, *ID_, "--work", "w").code == 0
    parts = {path: path.stat().st_mtime_ns for path in Path("w").rglob("*.parquet")}
    paint(reds / "new.png", (1, 0, 0.1))
    assert json.loads(run("evaluate", *sets, *ID_, "--work", "w", "--json", "-").out)["id"]["n"] == 31
    assert all(path.stat().st_mtime_ns == then for path, then in parts.items())
    new = set(Path("w").rglob("*.parquet")) - set(parts)
    assert [pq.read_metadata(path).num_rows for path in new] == [1]


def test_bad_images_are_counted_listed_and_not_fatal(run: Run, sets: tuple[str, ...], others: Path) -> None:
    (others / "bad.png").write_bytes(b"x")
    ended = run("evaluate", *sets, *ID_)
    assert ended.code == 1
    assert "others: 1 of 21 images could not be used\n  bad.png: " in ended.err
    assert "bad.png" in Path("mcm-evaluation/report.html").read_text()


def write_scores(name: str, scores: object) -> None:
    Path(name).write_text("score\n" + "".join(f"{float(score)!r}\n" for score in np.asarray(scores)))


def test_the_papers_figures_stand_beside_those_of_score_files(run: Run, here: Path) -> None:
    rng = np.random.default_rng(0)
    write_scores("id.csv", rng.normal(1, 1, 300))
    sets = ["--id", "ImageNet=id.csv"]
    for name in ("iNaturalist", "SUN", "Places365", "Textures"):
        write_scores(f"{name}.csv", rng.normal(0, 1, 100))
        sets += ["--ood", f"{name}={name}.csv"]
    ended = run("evaluate", *sets, "--paper", "--json", "all.json")
    table = [line.split("\t") for line in ended.out.splitlines()[6:]]
    assert table[0] == ["set", "FPR95", "paper", "difference", "AUROC", "paper", "difference"]
    assert [(row[0], row[2], row[5]) for row in table[1:]] == [
        ("iNaturalist", "30.91", "94.61"),
        ("SUN", "37.59", "92.57"),
        ("Places365", "44.69", "89.77"),
        ("Textures", "57.77", "86.11"),
        ("average", "42.74", "90.77"),
    ]
    assert "bilinear" in ended.err
    assert "bicubic" in ended.err
    assert len(json.loads(Path("all.json").read_text())["paper"]) == 5


def test_paper_prepares_images_as_the_authors_did(run: Run, sets: tuple[str, ...]) -> None:
    ended = run("evaluate", *sets, *ID_, "--paper", "--work", "w", "--json", "-")
    assert ended.code == 0
    assert "nothing to compare" in run("evaluate", *sets, *ID_, "--paper").err
    encoders = pq.read_table(next(Path("w").rglob("*.parquet"))).to_pydict()
    assert encoders["encoder"][0] == "ViT-B-16/openai"
    assert encoders["fingerprint"][0] == "ViT-B-16/openai-bilinear"


def test_class_names_of_imagenet_are_open_clips_own(run: Run, sets: tuple[str, ...]) -> None:
    ended = run("evaluate", *sets, "--class-names", "imagenet", "--score", "max-logit")
    assert ended.code == 0
    assert "'missile' = 'missile', 'sunglasses' = 'sunglasses'" in ended.err


def test_class_names_from_a_file(run: Run, sets: tuple[str, ...]) -> None:
    Path("names.txt").write_text("red\nyellow\n")
    of_file = run("evaluate", *sets, "--class-names", "names.txt", "--json", "-")
    assert json.loads(of_file.out) == json.loads(run("evaluate", *sets, *ID_, "--json", "-").out)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--id", "reds", "--ood", "o=others", *ID_], "NAME=PATH, not 'reds'"),
        (["--id", "r=reds", "--ood", "o=nowhere", *ID_], "there is no nowhere"),
        (["--id", "r=reds", "--ood", "o=others"], "give the concepts or a detector"),
        (["--id", "r=reds", "--ood", "o=others", "--score", "mcm"], "--score goes with concepts"),
        (["--id", "r=reds", "--ood", "o=others", *ID_, "--score", "best"], "there is no score 'best'"),
        (["--id", "r=reds", "--ood", "o=others", *ID_, "--temperature", "hot"], "numbers between commas"),
        (
            ["--id", "r=reds", "--ood", "o=others", *ID_, "--class-names", "imagenet"],
            "give one of --concepts",
        ),
        (["--id", "r=reds", "--ood", "o=others", "--concepts", "red"], "use max-logit or energy"),
        (["--id", "r=s.csv", "--ood", "o=s.csv", *ID_], "there is nothing to score"),
        (
            ["--id", "r=reds.parquet", "--ood", "o=others", *ID_, "--score", "gl-mcm"],
            "give the folder of images",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    run: Run, tables: tuple[str, ...], options: list[str], reason: str
) -> None:
    write_scores("s.csv", [1, 2])
    ended = run("evaluate", *options)
    assert ended.code == 2
    assert reason in ended.err
    assert ended.err.splitlines()[-1].startswith("error: ")


# ---- embeddings in place of images


def test_embeddings_are_scored_as_their_images_are(run: Run, reds: Path, tables: tuple[str, ...]) -> None:
    of_images = json.loads(run("score", reds, *ID_, "--json", "-").out)["results"]
    of_table = json.loads(run("score", "reds.parquet", *ID_, "--json", "-").out)["results"]
    assert of_table == of_images
    assert of_table[0]["name"] == "reds/00.png"


def test_embeddings_calibrate_as_their_images_do(run: Run, reds: Path, tables: tuple[str, ...]) -> None:
    for path, file in ((reds, "a.json"), ("reds.parquet", "b.json")):
        assert run("detector", "create", "--detector-file", file, *ID_).code == 0
        assert run("calibrate", path, "--detector-file", file).code == 0
    first, second = (read_detector_file(Path(f).read_bytes()) for f in ("a.json", "b.json"))
    assert first.threshold == second.threshold
    assert first.calibration.scores.tolist() == second.calibration.scores.tolist()


def test_images_and_tables_are_scored_together_in_order(
    run: Run, reds: Path, photos: Path, tables: tuple[str, ...]
) -> None:
    ended = run("score", photos / "blue", "others.parquet", photos / "red", *ID_, "--json", "-")
    names = [row["name"] for row in json.loads(ended.out)["results"]]
    assert (names[0], names[1], names[-1]) == ("photos/blue/blue.png", "others/00.png", "photos/red/red.png")


def test_bad_images_of_a_table_stay_bad(run: Run, reds: Path) -> None:
    (reds / "05.png").write_bytes(b"x")
    assert run("embed", reds, "--out", "reds.parquet").code == 1
    ended = run("score", "reds.parquet", *ID_, "--json", "-")
    assert ended.code == 1
    assert "1 of 30 images could not be used:\n  reds/05.png: this is not an image" in ended.err


def test_embeddings_of_another_encoder_are_refused(run: Run, tables: tuple[str, ...]) -> None:
    ended = run("score", "reds.parquet", *ID_, "--encoder", "another")
    assert ended.code == 2
    assert "the embeddings were made by encoder colours-1" in ended.err


def test_tables_that_cannot_be_scored_are_refused(run: Run, tables: tuple[str, ...]) -> None:
    write_scores("s.csv", [1, 2])
    assert "s.csv is a table of scores" in run("score", "s.csv", *ID_).err
    ended = run("score", "reds.parquet", *ID_, "--server", "http://127.0.0.1:9")
    assert ended.code == 2
    assert "used on this machine, not sent to http://127.0.0.1:9" in ended.err


# ---- embed, which goes on where it was stopped


def test_embeddings_come_in_the_order_of_the_images_and_leave_nothing_beside_them(
    run: Run, reds: Path
) -> None:
    assert run("embed", reds, "--out", "whole.parquet").code == 0
    names = pq.read_table("whole.parquet").to_pydict()["name"]
    assert names == [f"reds/{i:02}.png" for i in range(30)]
    assert not Path("whole.parquet.parts").exists()


@pytest.mark.parametrize("out", ["x.parquet", "x.jsonl"])
def test_only_what_embed_itself_kept_is_deleted(run: Run, reds: Path, out: str) -> None:
    mine = Path(f"{out}.parts") / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    assert run("embed", reds, "--out", out).code == 0
    assert list(mine.parent.iterdir()) == [mine]


def test_an_image_that_is_named_twice_has_two_rows(run: Run, reds: Path) -> None:
    assert run("embed", reds / "03.png", reds, "--out", "x.parquet").code == 0
    names = pq.read_table("x.parquet").to_pydict()["name"]
    assert sorted(names) == sorted(["reds/03.png", *(f"reds/{i:02}.png" for i in range(30))])


def test_embeddings_of_a_stopped_run_by_another_encoder_are_not_mixed(run: Run, reds: Path) -> None:
    from mcm.evaluation.store import Store, image_file
    from mcm.pipeline import Embedded

    store = Store(Path("x.parquet.parts"), "colours", "colours-1")
    first = image_file(reds / "00.png")
    marker = np.full(16, 0.25, dtype=np.float32)
    list(store.add([(first, Embedded(0, first.name, marker, None))]))
    refused = run("embed", reds, "--out", "x.parquet", "--encoder", "another")
    assert refused.code == 2
    assert "x.parquet.parts holds embeddings of another encoder" in refused.err
    assert run("embed", reds, "--out", "x.parquet").code == 0
    rows = pq.read_table("x.parquet").to_pydict()
    assert rows["embedding"][0] == [0.25] * 16  # as the stopped run left it
    assert len(rows["name"]) == 30
