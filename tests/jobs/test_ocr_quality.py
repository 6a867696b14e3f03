"""The OCR quality predictor: damage, labels by the real engine, training, prediction."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from cluster.errors import InvalidInput, ModelUnavailable, NotFound, UnreadableDocument
from cluster.pages.vectors import PageVectors, Tile
from cluster.settings import load_settings
from jobs.ocr_quality.accuracy import accuracy
from jobs.ocr_quality.degrade import EFFECTS, Effect, degrade, plan_effects
from jobs.ocr_quality.engines import find_engine
from jobs.ocr_quality.fit import folds, metrics
from jobs.ocr_quality.label import LabelContext, LabelDocument, LabelRequest, label_pages, spread
from jobs.ocr_quality.label_store import LabelStore
from jobs.ocr_quality.report import write_report
from jobs.ocr_quality.table import read_table
from jobs.ocr_quality.train import TrainRequest, remarks, train_predictor
from jobs.ocr_quality.transcripts import transcript_of
from jobs.rendering.client import RenderLimits
from jobs.rendering.pages import PageReader
from models.ocr_quality.features import image_statistics
from models.ocr_quality.files import MODEL_FILE, load_model
from models.ocr_quality.predictor import SHIPPED_FOLDER, QualityPredictor, open_predictor, verdict
from quire import app
from tests.support.documents import a_bomb, png

WORDS = [
    "invoice",
    "delivery",
    "copper",
    "pipe",
    "amount",
    "harbour",
    "station",
    "winter",
    "garden",
    "total",
    "letter",
    "paper",
]


def a_page(seed: int = 0, size: int = 22, lines: int = 8) -> tuple[Image.Image, str]:
    """A page of words, uint8 grey, and its text."""
    rng = np.random.default_rng(seed)
    font = ImageFont.load_default(size)
    image = Image.new("L", (560, 40 + lines * size * 2), 255)
    said = [" ".join(rng.choice(WORDS, 4)) for _ in range(lines)]
    for number, line in enumerate(said):
        ImageDraw.Draw(image).text((24, 24 + number * size * 1.8), line, 0, font)
    return image, "\n".join(said)


def a_pdf(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    document = pymupdf.open()
    page = document.new_page(width=300, height=200)
    for line in range(6):
        page.insert_text((20, 30 + line * 24), " ".join(rng.choice(WORDS, 4)), fontsize=11)
    document.save(path)
    return path


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a few pages, made by the worker of the labelling job without Ray."""
    folder = tmp_path_factory.mktemp("pages")
    for number in range(14):
        image, text = a_page(number, size=[14, 18, 24][number % 3], lines=4)
        image.save(folder / f"page-{number}.png")
        (folder / f"page-{number}.txt").write_text(text)
    into = tmp_path_factory.mktemp("labels")
    worker = LabelDocument(a_job(LabelRequest((str(folder),), into, variants=3)))
    store = LabelStore(into)
    for file in sorted(folder.glob("*.png")):
        (row,) = worker({"source": [str(file)]})
        assert row["problem"] == [""]
        store.add(
            json.loads(text) | {"image": image}
            for text, image in zip(row["rows"][0], row["images"][0], strict=True)
        )
    return into


def a_job(request: LabelRequest, done: frozenset[str] = frozenset()) -> LabelContext:
    engine = find_engine("tesseract", "eng", timeout_s=30)
    return LabelContext(request, engine, engine.version, RenderLimits(), 2**30, done)


class Tokens:
    """A late-interaction model whose vectors are the brightness and spread of patches."""

    class Spec:
        name, revision, dimension = "patches", "1", 2

    spec = Spec()

    def embed_images(
        self, images: Sequence[Image.Image], *, hidden: bool = False, tiles: int = 1
    ) -> list[PageVectors]:
        found = []
        for image in images:
            cells = np.asarray(image.convert("L").resize((40, 40)), np.float32)
            cells = cells.reshape(4, 10, 4, 10).swapaxes(1, 2).reshape(16, 100)
            matrix = np.stack([cells.mean(1), cells.std(1)], 1) / 255
            found.append(PageVectors(matrix, (Tile(4, 4),), matrix * 2 if hidden else None))
        return found


# Truth and accuracy


@pytest.mark.parametrize(
    ("read", "truth", "cer", "wer"),
    [
        ("one  two\nthree", "one two three", 0.0, 0.0),
        ("", "one two", 1.0, 1.0),
        ("one twx", "one two", 1 / 7, 0.5),
        ("noise " * 40, "one two", 1.0, 1.0),
        ("請求 書", "請求書", 0.0, 0.0),
        ("請求言", "請求書", 1 / 3, 1 / 3),
        ("ﬁne", "fine", 0.0, 0.0),
    ],
)
def test_error_rates(read: str, truth: str, cer: float, wer: float) -> None:
    found = accuracy(read, truth, {})
    assert found.cer == pytest.approx(cer)
    assert found.wer == pytest.approx(wer)
    assert found.fields is None


def test_recall_and_fields_do_not_mind_the_order() -> None:
    found = accuracy("TOTAL 12.50 Main Street 4", "4 main Street total 12.50", {"a": "12.50"})
    assert found.recall == pytest.approx(3 / 5)
    assert found.fields == 1.0
    assert accuracy("x", "abc", {"total": "12", "empty": ""}).fields == 0.0


def test_a_truth_without_characters_is_refused() -> None:
    with pytest.raises(ValueError, match="without"):
        accuracy("x", "  ", {})


def test_transcripts_beside_documents(tmp_path: Path) -> None:
    document = tmp_path / "a.png"
    assert transcript_of(str(document)).stamp == ""
    (tmp_path / "a.txt").write_text("one\ftwo")
    (tmp_path / "a.json").write_text('{"total": 12.5, "name": null}')
    found = transcript_of(str(document))
    assert [found.truth(page, "layer") for page in (1, 2, 3)] == ["one", "two", ""]
    assert dict(found.fields) == {"total": "12.5", "name": ""}
    (tmp_path / "a.json").write_text('{"deep": {"x": 1}}')
    with pytest.raises(UnreadableDocument, match="flat"):
        transcript_of(str(document))


# Damage


@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_is_seeded_and_changes_the_page(name: str) -> None:
    gray = np.asarray(a_page(1)[0])
    effects = [Effect(name, 0.6)]
    first, second = (degrade(gray, effects, seed=5) for _ in range(2))
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert first.shape != gray.shape or not np.array_equal(first, gray)
    if name not in ("low_resolution", "skew"):
        assert first.shape == gray.shape


def test_plans_follow_from_the_seed() -> None:
    assert plan_effects(3) == plan_effects(3)
    plans = [plan_effects(seed) for seed in range(60)]
    assert {each.name for plan in plans for each in plan} == set(EFFECTS)
    assert all(1 <= len(plan) <= 4 for plan in plans)
    assert all(0 < each.severity <= 1 for plan in plans for each in plan)


# Labels


def test_labels_say_everything_about_a_variant(labels: Path) -> None:
    rows = list(LabelStore(labels).rows())
    assert len(rows) == 14 * 4
    clean = [row for row in rows if row["variant"] == 0]
    damaged = [row for row in rows if row["variant"]]
    assert np.mean([row["cer"] for row in clean]) < 0.1
    assert np.mean([row["cer"] for row in damaged]) > np.mean([row["cer"] for row in clean])
    row = damaged[0]
    assert row["engine"] == "tesseract"
    assert row["engine_version"][0].isdigit()
    assert json.loads(row["effects"])[0]["severity"] > 0
    assert all(0 <= row[name] <= 1 for row in rows for name in ("cer", "wer", "recall"))
    seen = np.asarray(Image.open(io.BytesIO(row["image"])))
    assert seen.shape == (row["height"], row["width"])


def test_labelling_is_a_job_that_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folder, into = tmp_path / "pdfs", tmp_path / "labels"
    folder.mkdir()
    a_pdf(folder / "a.pdf")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing")
    Image.new("L", (200, 200), 255).save(folder / "untold.png")
    settings = load_settings(workers=1)
    engine = find_engine("tesseract", "eng", timeout_s=30)
    report = label_pages(settings, LabelRequest((str(folder),), into, variants=1), engine)
    assert (report.documents, report.pages_done, report.failures) == (3, 2, 2)
    assert {Path(name).name for name in report.skipped} == {"broken.pdf", "untold.png"}
    rows = {row["id"]: row for row in LabelStore(into).rows()}
    assert {row["truth"] for row in rows.values()} == {"text layer"}
    # What is done is not done again, and a second variant is added to the first.
    job = a_job(LabelRequest((str(folder),), into, variants=1), frozenset(rows))
    (again,) = LabelDocument(job)({"source": [str(folder / "a.pdf")]})
    assert (again["rows"], again["problem"]) == ([[]], [""])
    job = a_job(LabelRequest((str(folder),), into, variants=2), frozenset(rows))
    (more,) = LabelDocument(job)({"source": [str(folder / "a.pdf")]})
    assert [json.loads(row)["variant"] for row in more["rows"][0]] == [2]


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(InvalidInput, match="magic"):
        find_engine("magic", "eng", timeout_s=1)
    with pytest.raises(InvalidInput, match="xxx"):
        find_engine("tesseract", "eng+xxx", timeout_s=1)


def test_pages_are_spread_over_a_document() -> None:
    assert spread(10, 3) == [2, 6, 9]
    assert spread(2, 3) == [1, 2]
    assert spread(3, 0) == [1, 2, 3]


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    image = a_page(2)[0]
    image.save(tmp_path / "a.png")
    with PageReader(RenderLimits()) as reader:
        found = reader.read(str(tmp_path / "a.png"), 1, pages=1)
        assert np.array_equal(found.rgb[..., 0], np.asarray(image))
        pdf = reader.read(str(a_pdf(tmp_path / "b.pdf")), 1, pages=1)
        assert pdf.rgb.shape == (round(200 / 72 * 200), round(300 / 72 * 200), 3)
        assert pdf.text.split()[0] in WORDS
        (tmp_path / "bomb.png").write_bytes(a_bomb())
        with pytest.raises(UnreadableDocument, match="13000"):
            reader.read(str(tmp_path / "bomb.png"), 1, pages=1)


# Statistics


def test_statistics_see_size_sharpness_noise_and_skew() -> None:
    image = a_page(3, size=24)[0]
    plain = image_statistics(np.asarray(image))
    half = image_statistics(np.asarray(image.reduce(2)))
    assert half["letter_height"] == pytest.approx(plain["letter_height"] / 2, rel=0.25)
    soft = image_statistics(degrade(np.asarray(image), [Effect("blur", 0.5)], 1))
    assert soft["edge_slope"] < plain["edge_slope"]
    grainy = image_statistics(degrade(np.asarray(image), [Effect("noise", 0.5)], 1))
    assert grainy["noise"] > 1.4 * plain["noise"]
    turned = image.rotate(4, expand=True, fillcolor=255)
    assert image_statistics(np.asarray(turned))["skew"] == pytest.approx(4, abs=0.7)
    assert plain["skew"] < 0.5


@pytest.mark.parametrize(
    "page",
    [
        np.zeros((16, 16), np.uint8),
        np.full((900, 20), 255, np.uint8),
        np.random.default_rng(1).integers(0, 255, (200, 300), np.uint8),
        np.full((3000, 3000), 128, np.uint8),
    ],
)
def test_statistics_of_odd_pages_are_finite(page: np.ndarray) -> None:
    found = image_statistics(page)
    assert np.isfinite(list(found.values())).all()
    assert set(found) == set(image_statistics(np.asarray(a_page()[0])))


def test_statistics_refuse_what_is_no_page() -> None:
    with pytest.raises(InvalidInput):
        image_statistics(np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(InvalidInput):
        image_statistics(np.zeros((3, 20), np.uint8))


# Training


@pytest.mark.parametrize("regression", ["lightgbm", "svr"])
def test_a_predictor_is_trained_saved_and_used(
    labels: Path, tmp_path: Path, regression: str
) -> None:
    request = TrainRequest(labels, tmp_path, regression, pooling="mean", compare=False)  # type: ignore[arg-type]
    report = train_predictor(request, Tokens())  # type: ignore[arg-type]
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".txt", ".skops"}
    card = load_model(tmp_path).card
    assert (card.engine, card.languages) == ("tesseract", ("eng",))
    assert (card.vectors, card.pooling, card.late_interaction) == ("hidden", "mean", "patches")
    assert report.targets["cer"]["mae"] <= 1
    predictor = QualityPredictor(tmp_path, Tokens())  # type: ignore[arg-type]
    sharp, spoilt = a_page(1)[0], degrade(np.asarray(a_page(1)[0]), [Effect("blur", 1)], 1)
    one, two = predictor.predict([png(sharp), np.stack([spoilt] * 3, -1)])
    assert one.cer < two.cer
    for found in (one, two):
        assert 0 <= found.cer_low <= found.cer <= found.cer_high <= 1
        assert found.engine == f"tesseract {card.engine_version}"
    page = write_report(report, tmp_path / "report")
    assert "data:image/png" in page.read_text()
    assert (tmp_path / "report" / "predictions.png").stat().st_size > 1000


def test_another_late_interaction_model_is_refused(labels: Path, tmp_path: Path) -> None:
    train_predictor(TrainRequest(labels, tmp_path, pooling="mean", compare=False), Tokens())  # type: ignore[arg-type]
    with pytest.raises(ModelUnavailable, match="patches@1"):
        QualityPredictor(tmp_path, None)
    other = Tokens()
    other.spec.revision = "2"
    try:
        with pytest.raises(ModelUnavailable, match="train it again"):
            QualityPredictor(tmp_path, other)  # type: ignore[arg-type]
    finally:
        other.spec.revision = "1"


def test_features_are_measured_once(labels: Path) -> None:
    first = read_table(labels, None)
    files = sorted((labels / "features").rglob("*.parquet"))
    second = read_table(labels, None)
    assert sorted((labels / "features").rglob("*.parquet")) == files
    assert np.array_equal(first.statistics, second.statistics)


def test_altered_files_are_refused(labels: Path, tmp_path: Path) -> None:
    train_predictor(TrainRequest(labels, tmp_path), None)
    assert not QualityPredictor(tmp_path, None).needs_vectors
    with (tmp_path / "cer.txt").open("a") as file:
        file.write("\n")
    with pytest.raises(ModelUnavailable, match="altered"):
        load_model(tmp_path)
    (tmp_path / MODEL_FILE).write_text("{}")
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        load_model(tmp_path)
    with pytest.raises(ModelUnavailable, match="quire quality train"):
        load_model(tmp_path / "nowhere")


def test_labels_are_needed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="quire quality label"):
        train_predictor(TrainRequest(tmp_path, tmp_path), None)


def test_documents_stay_whole_in_folds() -> None:
    documents = np.repeat(["a", "b", "c", "d", "e", "f"], 4)
    for seen, left in folds(documents, 3):
        assert not set(documents[seen]) & set(documents[left])


def test_figures() -> None:
    true = np.array([0.0, 0.1, 0.3, 0.9])
    perfect = metrics(true, true)
    assert (perfect["mae"], perfect["spearman"], perfect["auroc"]) == (0, 1, 1)
    mean = metrics(true, np.full(4, true.mean()))
    assert mean["of_mean"] == 1
    assert np.isnan(mean["spearman"])


def test_the_report_says_when_vectors_lose() -> None:
    rows = [
        {"features": "statistics", "mae": 0.1},
        {"features": "vectors mean", "mae": 0.2},
        {"features": "hidden mean", "mae": 0.15},
        {"features": "statistics + vectors mean", "mae": 0.11},
        {"features": "statistics + hidden mean", "mae": 0.09},
    ]
    said = " ".join(remarks(rows))
    assert "projected vectors alone lose to image statistics" in said
    assert "projected vectors does not improve" in said
    assert "before projection improves" in said
    assert "lose to the wider states" in said


# The shipped predictor


@pytest.fixture(scope="session")
def shipped() -> QualityPredictor:
    predictor = open_predictor(load_settings())
    assert isinstance(predictor, QualityPredictor)
    return predictor


def test_the_shipped_predictor_knows_good_from_bad(shipped: QualityPredictor) -> None:
    image = a_page(4, size=24)[0]
    gray = np.asarray(image)
    bad = [
        degrade(gray, [Effect("low_resolution", 1)], 1),
        degrade(gray, [Effect("blur", 1)], 1),
        degrade(gray, [Effect("faint_ink", 1), Effect("noise", 1)], 1),
    ]
    good, *others = shipped.predict([np.stack([page] * 3, -1) for page in (gray, *bad)])
    assert good.cer < 0.2
    assert all(found.cer > good.cer + 0.05 for found in others)


def test_attribution_points_at_the_damage(shipped: QualityPredictor) -> None:
    gray = np.array(a_page(5, size=24, lines=14)[0])
    half = len(gray) // 2
    gray[half:] = degrade(gray[half:], [Effect("noise", 0.9), Effect("faint_ink", 0.8)], 3)
    found = shipped.attribute(Image.fromarray(gray).convert("RGB"))
    rows = len(found.contribution)
    assert found.contribution.ndim == 2
    lower, upper = found.contribution[rows // 2 :].sum(), found.contribution[: rows // 2].sum()
    assert lower > upper


def test_the_shipped_predictor_says_what_it_is() -> None:
    card = load_model(SHIPPED_FOLDER).card
    assert card.engine == "tesseract"
    assert card.figures["documents"] >= 250
    unseen = card.figures["unseen documents"]["cer"]
    assert unseen["spearman"] >= 0.6
    assert unseen["of_mean"] <= 0.75


def test_verdicts_follow_the_settings() -> None:
    settings = load_settings()
    assert [verdict(cer, settings) for cer in (0.0, 0.2, 0.4, 0.61)] == [
        "read",
        "read",
        "rescan",
        "by hand",
    ]
    assert verdict(0.3, load_settings(quality_read_cer=0.35)) == "read"


def test_predict_prints_a_table_and_json(tmp_path: Path) -> None:
    a_page(6)[0].save(tmp_path / "a.png")
    (tmp_path / "b.pdf").write_text("<html>")
    done = CliRunner().invoke(app, ["quality", "predict", str(tmp_path)])
    assert done.exit_code == 1
    assert "a.png" in done.stdout
    assert "b.pdf" in done.stdout
    done = CliRunner().invoke(app, ["quality", "predict", str(tmp_path / "a.png"), "--json"])
    (row,) = json.loads(done.stdout)
    assert row["verdict"] in ("read", "rescan", "by hand")
    assert 0 <= row["cer_low"] <= row["cer"] <= row["cer_high"] <= 1
