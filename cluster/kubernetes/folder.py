"""A folder of manifests that Quire may write again, and in which no file of others is touched."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cluster.errors import InvalidInput
from cluster.kubernetes.manifests import IMAGE, manifests
from cluster.plan import Plan

LEDGER = ".written-by-quire.json"  # path → sha256 of everything in the folder that is ours


def write_manifests(plan: Plan, folder: Path, *, image: str = "") -> list[Path]:
    """Write all that `kubectl apply -k FOLDER` needs; returns the files.

    `image`: Quire's, by default quire:VERSION-cuda, or -cpu where the plan has no GPU. Raises
    InvalidInput where the plan cannot be placed, or the folder has files that are not ours.
    """
    files = manifests(plan, image or f"{IMAGE}-{'cuda' if plan.gpus else 'cpu'}")
    ours = _ours(folder)
    _check_folder(folder, files, ours)
    for name in ours.keys() - files.keys():
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Last: whoever is interrupted before finds files as they were or as they shall be.
    known = {name: _digest(text) for name, text in files.items()}
    (folder / LEDGER).write_text(json.dumps(known, indent=1))
    return [folder / name for name in files]


def _ours(folder: Path) -> dict[str, str]:
    """Return the digest of every file that was written here before."""
    ledger = folder / LEDGER
    if not ledger.exists():
        return {}
    try:
        ours = TypeAdapter(dict[str, str]).validate_json(ledger.read_bytes())
    except (OSError, ValidationError) as error:
        raise InvalidInput(f"{ledger} cannot be read: {error}") from error
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in ours):
        raise InvalidInput(f"{ledger} names files outside of its folder")
    return ours


def _check_folder(folder: Path, files: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise InvalidInput where a file of somebody else would be written over or removed."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder} is a file: name a folder for the manifests")
    if not ours and (strangers := _strangers(folder, files)):
        raise InvalidInput(f"{strangers[0]} is not from here: name another folder")
    for name in sorted({*files, *ours}):
        path = folder / name
        if not path.exists():
            continue
        if _digest_of(path) not in (ours.get(name), _digest(files.get(name, ""))):
            raise InvalidInput(
                f"{path} was changed, and would be written over: put changes into a kustomization "
                "of your own above this folder, and remove this file or name another folder"
            )


def _strangers(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """List what lies there, but for what an interrupted run of ours would have left."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
        and _digest_of(path) != _digest(files.get(str(path.relative_to(folder)), ""))
    ]


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
