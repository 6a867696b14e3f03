"""Pictures of evidence on the command line."""

from pathlib import Path

from PIL import Image

from tests.support.ray_process import RayProcess


def test_search_by_late_interaction_with_evidence(
    indexed: tuple[Path, Path], tmp_path: Path, ray_process: RayProcess
) -> None:
    _, store = indexed
    out = tmp_path / "evidence"
    found = ray_process.quire_json(
        "search", "cracked seat tube", "--store", store, "--rerank", "late-interaction",
        "--evidence", out, "-k", 4, "--sort", "easy-first", "--max-cer", 0.9, folder=tmp_path,
    )  # fmt: skip
    hits = found
    assert len(hits) == 4
    assert all(hit["maxsim"] is not None and 0 <= hit["expected_cer"] <= 0.9 for hit in hits)
    assert [hit["expected_cer"] for hit in hits] == sorted(hit["expected_cer"] for hit in hits)
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 4
    assert [file.name[:3] for file in pictures] == ["01-", "02-", "03-", "04-"]
    assert any("-words.png" in file.name for file in pictures)
    with Image.open(pictures[0]) as image:
        assert image.format == "PNG" and image.width > 500
