"""A model of each late-interaction architecture."""

import pytest

from models.late_interaction.model import ColPaliModel
from models.options import LateInteractionOptions
from tests.support.late import FAMILIES


@pytest.fixture(scope="package", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    name: str = request.param
    return str(FAMILIES[name][0](tmp_path_factory.mktemp("late") / name))


@pytest.fixture(scope="package")
def model(family: str) -> ColPaliModel:
    return ColPaliModel(LateInteractionOptions(model=family))
