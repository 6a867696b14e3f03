"""Results of evaluations: what was asked, what is right, what was found; kept as JSON files."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from jobs.evaluation.questions import Question
from jobs.evaluation.runs import Run
from jobs.evaluation.sweep import Sweep
from jobs.evaluation.truth import Truth

FOLDER = "evaluations"  # in the store's folder
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class AskedQuestion:
    """A question as reports show it; an image by its file's name."""

    id: str
    text: str
    image: str
    synthetic: bool

    @classmethod
    def of(cls, question: Question) -> "AskedQuestion":
        image = Path(question.image).name if question.image else ""
        return cls(question.id, question.text, image, question.synthetic)


@dataclass
class EvaluationResult:
    """An evaluation: metrics are computed from it, so that a kept one can be compared with.

    `against`: the kept evaluation whose run is the first of `runs`, "" where there is none.
    """

    name: str
    created: str  # ISO 8601, UTC
    collection: str
    fingerprint: str
    source: str  # of the questions
    depth: int  # pages that every search returned
    questions: list[AskedQuestion]
    truths: list[Truth]
    runs: list[Run]
    against: str = ""
    sweep: Sweep | None = None

    @property
    def own_runs(self) -> list[Run]:
        """The runs of this evaluation: the first is that of the settings as they are."""
        return self.runs[1:] if self.against else self.runs


_RESULT = TypeAdapter(EvaluationResult)


def default_name() -> str:
    """Return a name by the time, UTC."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime())


def result_path(settings: Settings, name: str) -> Path:
    """Return where an evaluation of this name is kept. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name: use letters, digits, dots, - and _")
    return settings.data_dir / FOLDER / f"{name}.json"


def save_result(settings: Settings, result: EvaluationResult) -> Path:
    """Keep an evaluation under its name; returns the file. Raises InvalidInput."""
    path = result_path(settings, result.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(_RESULT.dump_json(result))
    unfinished.replace(path)
    return path


def load_result(settings: Settings, name: str) -> EvaluationResult:
    """Return a kept evaluation. Raises NotFound, InvalidInput."""
    path = result_path(settings, name)
    if not path.is_file():
        kept = sorted(each.stem for each in path.parent.glob("*.json"))
        raise NotFound(f"there is no evaluation {name!r}; kept are: {', '.join(kept) or 'none'}")
    try:
        return _RESULT.validate_json(path.read_bytes())
    except ValidationError as error:
        raise InvalidInput(f"{path} is no evaluation that this Quire kept") from error
