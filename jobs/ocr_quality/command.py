"""`quire quality`: label pages, train a predictor, predict."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.command_options import (
    Json,
    command,
    command_group,
    print_rows,
    setting,
    settings_among,
)
from cluster.errors import InvalidInput
from cluster.settings import Settings, load_settings

app = command_group(
    "Predict a page's character error rate without running OCR, or train a predictor for your own "
    "documents and engine."
)


@command(app, "label")
def label_quality(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Folders or files: PDFs with a text layer, or any document NAME.* with its "
            "transcript NAME.txt (and NAME.json, flat {field: value})."
        ),
    ],
    into: Annotated[
        Path, typer.Option(help="Folder of the training set; rows that it has are not made again.")
    ] = Path("quality-labels"),
    variants: Annotated[
        int, typer.Option(help="Damaged copies of each page; 0 labels pages only as they are.")
    ] = 5,
    pages: Annotated[
        int, typer.Option(help="Most pages of one document, evenly spread; 0 takes all.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same damage.")] = 0,
    engine: Annotated[str, typer.Option(help="The OCR engine to label with.")] = "tesseract",
    ocr_languages: Annotated[str | None, setting("ocr_languages")] = None,
    workers: Annotated[int | None, typer.Option(help="Pages read at once; 0: one a core.")] = None,
    ray_address: Annotated[str | None, setting("ray_address")] = None,
    json_: Json = False,
) -> None:
    """Build a training set: damage pages on purpose, let the engine read them, compare."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ocr_quality.engines import find_engine
    from jobs.ocr_quality.label import LabelRequest, label_pages

    reader = find_engine(engine, settings.ocr_languages, timeout_s=settings.page_timeout_s)
    request = LabelRequest(tuple(paths), into, variants, pages, seed)
    report = label_pages(settings, request, reader)
    if json_:
        print(report.to_json())
        return
    print(
        f"{report.pages_done} new page variants of {report.documents} documents in {into} "
        f"({report.seconds:.0f} s, {reader.name} {reader.version})"
    )
    rows = [{"not labelled": name, "why": why} for name, why in report.skipped.items()]
    print_rows(rows, False, empty="next: quire quality train")


@command(app, "train")
def train_quality(
    labels: Annotated[
        Path, typer.Option(help="The training set that `quire quality label` made.")
    ] = Path("quality-labels"),
    into: Annotated[
        Path, typer.Option(help="Folder of the predictor; use it by --quality-model.")
    ] = Path("quality-model"),
    regression: Annotated[str, typer.Option(help="lightgbm or svr.")] = "lightgbm",
    vectors: Annotated[
        str,
        typer.Option(
            help="Multi-vectors to use beside image statistics: hidden (the states before the "
            "projection), vectors (the projected ones), or none."
        ),
    ] = "hidden",
    pooling: Annotated[
        str, typer.Option(help="mean, max, std, concat or attention; empty: the best one found.")
    ] = "",
    compare: Annotated[
        bool, typer.Option(help="Compare all feature sets; without, only what is asked for.")
    ] = True,
    late_interaction: Annotated[str | None, setting("late_interaction")] = None,
    json_: Json = False,
) -> None:
    """Train a predictor, try it on documents it has not seen, and write a report."""
    settings = load_settings(late_interaction=late_interaction)
    from jobs.ocr_quality.report import write_report
    from jobs.ocr_quality.train import TrainRequest, as_json, train_predictor

    if regression not in ("lightgbm", "svr") or vectors not in ("hidden", "vectors", "none"):
        raise InvalidInput("regression is lightgbm or svr; vectors is hidden, vectors or none")
    source = "" if vectors == "none" else vectors
    model = open_late_interaction(settings) if source else None
    request = TrainRequest(labels, into, regression, source, pooling, compare)  # type: ignore[arg-type]
    report = train_predictor(request, model)
    page = write_report(report, into / "report")
    if json_:
        print(json.dumps(as_json(report), indent=1))
        return
    columns = ("features", "mae", "of_mean", "spearman", "auroc", "calibration")
    rows = [
        {name: row[name] if name == "features" else f"{row[name]:.3f}" for name in columns}
        for row in report.comparison
    ]
    print_rows(rows, False, empty="")
    for remark in report.remarks:
        print(remark)
    print(f"predictor: {into}   report: {page}")


@command(app, "predict")
def predict_quality(
    files: Annotated[list[str], typer.Argument(help="PDFs, images, folders or globs.")],
    quality_model: Annotated[str | None, setting("quality_model")] = None,
    quality_ocr_cer: Annotated[
        float | None, setting("quality_ocr_cer", "--quality-read-cer")
    ] = None,
    quality_manual_cer: Annotated[
        float | None, setting("quality_manual_cer", "--quality-by-hand-cer")
    ] = None,
    json_: Json = False,
) -> None:
    """Predict error rates of pages and what to do with them: ocr, rescan or manual."""
    settings = load_settings(**settings_among(locals()))
    from jobs.ocr_quality.predict import predict_files
    from models.ocr_quality.predictor import open_predictor

    predictor = open_predictor(settings)
    pages = list(predict_files(settings, tuple(files), predictor))
    if json_:
        print(json.dumps([page.to_row() for page in pages], ensure_ascii=False, indent=1))
    else:
        print_quality(pages, predictor.engine)
    if any(page.error for page in pages):
        raise typer.Exit(1)


def open_late_interaction(settings: Settings) -> Any:
    """Return the late-interaction model of the settings. Raises ModelUnavailable."""
    from models.late_interaction.model import ColPaliModel
    from models.options import LateInteractionOptions

    return ColPaliModel(LateInteractionOptions.from_settings(settings))


def print_quality(pages: list[Any], engine: str) -> None:
    """Print a line for each page: expected error rates, their interval, and the verdict."""
    rows = []
    for page in pages:
        prediction = page.prediction
        interval = f"{prediction.cer_low:.2f}–{prediction.cer_high:.2f}" if prediction else ""
        rows.append(
            {
                "page": page.page or "",
                "CER": f"{prediction.cer:.2f}" if prediction else "",
                "interval": interval,
                "WER": f"{prediction.wer:.2f}" if prediction else "",
                "verdict": page.verdict or "failed",
                "file": Path(page.source).name + (f": {page.error}" if page.error else ""),
            }
        )
    print_rows(rows, False, empty="no page found")
    known = next((page.prediction for page in pages if page.prediction), None)
    if known:
        print(f"\nexpected of {engine}; the interval holds {known.interval:.0%} of pages")
