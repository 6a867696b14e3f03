"""The folder of emitted manifests: written again, changed by hand, interrupted."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.errors import InvalidInput
from cluster.kubernetes.folder import LEDGER, write_manifests
from tests.support.manifests import planned


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_writing_again_changes_nothing_and_keeps_what_is_not_ours(tmp_path: Path) -> None:
    files = write_manifests(planned(), tmp_path / "out")
    assert all(file.is_file() for file in files)
    (tmp_path / "out" / "secrets" / "store-token").write_text("mine")
    before = snapshot(tmp_path / "out")
    assert set(before) >= {str(file.relative_to(tmp_path / "out")) for file in files}
    write_manifests(planned(), tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_what_a_new_plan_does_not_need_goes(tmp_path: Path) -> None:
    write_manifests(planned(), tmp_path / "out")
    write_manifests(replace(planned(), ingest=None), tmp_path / "out")
    assert not (tmp_path / "out" / "ingest" / "kustomization.yaml").exists()
    assert "ingest" not in json.loads((tmp_path / "out" / LEDGER).read_text())


@pytest.mark.parametrize(
    "name", ["serve.yaml", "base/rayservice.yaml", "ingest/kustomization.yaml"]
)
def test_a_file_that_was_changed_stays(tmp_path: Path, name: str) -> None:
    write_manifests(planned(), tmp_path)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(InvalidInput, match=re.escape(name)):
        write_manifests(replace(planned(), ingest=None), tmp_path)
    assert snapshot(tmp_path) == before


def test_a_folder_of_others_stays(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("mine")
    with pytest.raises(InvalidInput, match="not from here"):
        write_manifests(planned(), tmp_path)
    assert snapshot(tmp_path) == {"kustomization.yaml": b"mine"}
    with pytest.raises(InvalidInput, match="is a file"):
        write_manifests(planned(), tmp_path / "kustomization.yaml")


def test_an_interrupted_run_can_be_run_again(tmp_path: Path) -> None:
    write_manifests(planned(), tmp_path)
    whole = snapshot(tmp_path)
    (tmp_path / LEDGER).unlink()
    (tmp_path / "serve.yaml").unlink()
    write_manifests(planned(), tmp_path)
    assert snapshot(tmp_path) == whole


def test_a_ledger_does_not_lead_outside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LEDGER).write_text(json.dumps({"../kept": "0"}))
    with pytest.raises(InvalidInput, match="outside"):
        write_manifests(planned(), tmp_path / "out")


def test_an_image_has_a_tag_or_a_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    for image in (f"registry:5000/quire@{digest}", "registry:5000/team/quire:1.2"):
        write_manifests(planned(), tmp_path, image=image)
        text = (tmp_path / "settings" / "kustomization.yaml").read_text()
        (found,) = yaml.safe_load(text)["images"]
        tail = f"@{found['digest']}" if "digest" in found else f":{found['newTag']}"
        assert found["newName"] + tail == image
    with pytest.raises(InvalidInput, match="neither a tag"):
        write_manifests(planned(), tmp_path, image="registry:5000/quire")


def test_a_plan_of_unknown_settings_is_refused(tmp_path: Path) -> None:
    plan = replace(planned(), settings={"modle": "x"})
    with pytest.raises(InvalidInput, match="modle"):
        write_manifests(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
