"""The service against its own OpenAPI document, by requests that nobody would write by hand.

It leaves documents behind, so it runs after serve/routes, which compares scores of the library.
"""

from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi import checks

from serve.web.application import build_http
from tests.support.serving import Server

load_all_checks()
CHECKS = (
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
)


schema = schemathesis.openapi.from_dict(build_http().openapi())


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_service_does_what_its_document_says(case: Any, server: Server) -> None:
    response = case.call(base_url=server.url, timeout=60)
    case.validate_response(response, checks=list(CHECKS))


def test_the_document_is_the_one_that_is_served(server: Server) -> None:
    assert httpx.get(f"{server.url}/openapi.json").json() == schema.raw_schema
