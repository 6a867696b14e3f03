"""Keys, scopes and tenants of a service that is not on loopback."""

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.collections.copy import copy_collection
from serve.auth.keys import KeyRing
from tests.support.client import a_pdf, finished, problem
from tests.support.ray_process import RayProcess
from tests.support.serving import Server, quire, running

TENANTS = ("red", "blue")


@dataclass(frozen=True)
class Tenant:
    """One tenant's client and its only document."""

    name: str
    client: httpx.Client
    doc_id: str
    job_id: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, ray_process: RayProcess) -> Iterator[Server]:
    """A service on every address, over an empty store: each caller needs a key."""
    ray_process.stop()  # the service has a Ray of its own
    folder = tmp_path_factory.mktemp("keyed")
    quire("keys", "create", "--scope", "admin", "--store", str(folder / "store"))
    with running(folder, folder / "store", "--host", "0.0.0.0") as found:
        yield found


@pytest.fixture(scope="module")
def ring(server: Server) -> KeyRing:
    return KeyRing(server.settings.keys_path)


def with_key(server: Server, text: str) -> httpx.Client:
    return server.client(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture(scope="module")
def tenants(server: Server, ring: KeyRing) -> Iterator[dict[str, Tenant]]:
    """Two tenants with a document each: the same words, other numbers."""
    found = {}
    for name in TENANTS:
        _, text = ring.create(name, ("search", "ingest"))
        client = with_key(server, text)
        files = {"files": (f"{name}.pdf", a_pdf(f"The secret plan of the {name} tenant"))}
        job = client.post("/v1/documents", files=files).json()["job_id"]
        (document,) = finished(client, job)[-1]["documents"]
        found[name] = Tenant(name, client, document["doc_id"], job)
    yield found
    for tenant in found.values():
        tenant.client.close()


def test_without_a_key_nothing_but_the_page_is_shown(server: Server) -> None:
    with server.client() as client:
        for method, url in (
            ("POST", "/v1/search"),
            ("POST", "/v1/embeddings"),
            ("POST", "/v1/documents"),
            ("GET", "/v1/documents"),
            ("GET", "/v1/models"),
            ("GET", "/metrics"),
        ):
            response = client.request(method, url)
            assert problem(response) == (401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
        for url in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert client.get(url).status_code == 200


def test_scopes(server: Server, ring: KeyRing) -> None:
    allowed = {"search": (400, 403, 403), "ingest": (403, 400, 403), "admin": (400, 400, 200)}
    for scope, expected in allowed.items():
        _, text = ring.create("", (scope,))
        with with_key(server, text) as client:
            found = (
                client.post("/v1/search", json={}).status_code,
                client.post("/v1/documents", json={}).status_code,
                client.get("/metrics").status_code,
            )
        assert found == expected, scope


def test_a_revoked_key_is_useless_at_once(server: Server, ring: KeyRing) -> None:
    key, text = ring.create("", ("search",))
    with with_key(server, text) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/v1/models", headers={"X-API-Key": text}).status_code == 200
        ring.revoke(key.key_id)
        assert problem(client.get("/v1/models")) == (401, "unauthorized")


def test_wrong_keys(server: Server, ring: KeyRing) -> None:
    key, text = ring.create("", ("search",))
    wrong = [
        text[:-1],
        text + "x",
        text.upper(),
        f"quire_{key.key_id}_",
        "quire__",
        "x",
        key.digest,
    ]
    with server.client() as client:
        for each in wrong:
            headers = {"Authorization": f"Bearer {each}"}
            assert problem(client.get("/v1/models", headers=headers))[0] == 401


def test_each_tenant_finds_its_own(tenants: dict[str, Tenant]) -> None:
    for tenant in tenants.values():
        for mode in ("hybrid", "dense", "text"):
            body = {"text": "secret plan tenant", "mode": mode, "top_k": 100}
            hits = tenant.client.post("/v1/search", json=body).json()["hits"]
            assert {hit["tenant"] for hit in hits} == {tenant.name}
        listed = tenant.client.get("/v1/documents").json()["documents"]
        assert [each["doc_id"] for each in listed] == [tenant.doc_id]


def test_no_filter_of_a_caller_reaches_another_tenant(tenants: dict[str, Tenant]) -> None:
    ids = [tenant.doc_id for tenant in tenants.values()]
    for tenant in tenants.values():
        for condition in (
            {"document": {"any": ids}},
            {"not": {"tag": "no such tag"}},
            {"any": [{"not": {"tenant": tenant.name}}, {"ingested": {"gte": "0001-01-01"}}]},
        ):
            params = {"filter": json.dumps(condition)}
            listed = tenant.client.get("/v1/documents", params=params).json()["documents"]
            assert [each["doc_id"] for each in listed] == [tenant.doc_id]
            body = {"text": "secret plan tenant", "filter": condition, "top_k": 100}
            hits = tenant.client.post("/v1/search", json=body).json()["hits"]
            assert {hit["tenant"] for hit in hits} == {tenant.name}


def test_every_route_to_somebody_elses_document_is_closed(tenants: dict[str, Tenant]) -> None:
    for thief, victim in (TENANTS, TENANTS[::-1]):
        client, target = tenants[thief].client, tenants[victim]
        page = f"{target.doc_id}:1"
        urls = [
            ("GET", f"/v1/pages/{page}"),
            ("GET", f"/v1/pages/{page}/image"),
            ("GET", f"/v1/pages/{page}/evidence"),
            ("GET", f"/v1/pages/{page}/quality"),
            ("GET", f"/v1/documents/{target.doc_id}"),
            ("GET", f"/v1/documents/{target.doc_id}/original"),
            ("POST", f"/v1/documents/{target.doc_id}/reindex"),
            ("DELETE", f"/v1/documents/{target.doc_id}"),
            ("GET", f"/v1/jobs/{target.job_id}"),
            ("GET", f"/v1/jobs/{target.job_id}/events"),
        ]
        for (method, url), tenant in product(urls, (None, thief, victim, "", f"{victim} ")):
            params = {"q": "plan"} if tenant is None else {"q": "plan", "tenant": tenant}
            response = client.request(method, url, params=params)
            assert response.status_code in (403, 404), (method, url, tenant)
            assert b"secret" not in response.content
    for own in tenants.values():
        assert own.client.get(f"/v1/documents/{own.doc_id}").json()["status"] == "indexed"
        assert own.client.get(f"/v1/pages/{own.doc_id}:1/image").status_code == 200


WORDS = st.one_of(
    st.sampled_from(["blue", "", "red", 'blue" or true', "%", "*", None]),
    st.text(string.printable, max_size=12),
)


@given(
    tenant=WORDS,
    tag=WORDS,
    key=st.text(string.printable, max_size=8),
    value=st.one_of(WORDS, st.integers(), st.floats(), st.booleans()),
    mode=st.sampled_from(["hybrid", "dense", "text"]),
    top_k=st.integers(1, 1000),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_search_ever_shows_another_tenants_page(
    tenants: dict[str, Tenant], tenant: Any, tag: Any, key: str, value: Any, mode: str, top_k: int
) -> None:
    wanted = {"tenant": tenant, "tags": [tag] if tag else [], "metadata": {key: value}}
    for filters in (wanted, {**wanted, "metadata": {}}, {"tenant": tenant}):
        body = {"text": "secret plan", "filters": filters, "mode": mode, "top_k": top_k}
        content = json.dumps(body)  # with NaN and Infinity, as a careless client has it
        response = tenants["red"].client.post(
            "/v1/search", content=content, headers={"Content-Type": "application/json"}
        )
        assert response.status_code in (200, 400, 403), response.text
        if response.status_code == 200:
            assert {hit["tenant"] for hit in response.json()["hits"]} <= {"red"}


@pytest.mark.long
def test_two_tenants_may_hold_the_same_bytes(tenants: dict[str, Tenant]) -> None:
    files = {"files": ("shared.pdf", a_pdf("A page that both have"))}
    ids = set()
    for tenant in tenants.values():
        job = tenant.client.post("/v1/documents", files=files).json()["job_id"]
        (document,) = finished(tenant.client, job)[-1]["documents"]
        ids.add(document["doc_id"])
    (shared,) = ids
    assert tenants["red"].client.delete(f"/v1/documents/{shared}").status_code == 200
    assert tenants["red"].client.get(f"/v1/pages/{shared}:1").status_code == 404
    blue = tenants["blue"].client
    assert "both" in blue.get(f"/v1/pages/{shared}:1").json()["text"]
    assert blue.get(f"/v1/documents/{shared}/original").content.startswith(b"%PDF")
    assert blue.delete(f"/v1/documents/{shared}").status_code == 200


def test_an_admin_key_without_a_tenant_of_its_own_is_still_bound(
    server: Server, ring: KeyRing, tenants: dict[str, Tenant]
) -> None:
    _, text = ring.create("red", ("admin",))
    with with_key(server, text) as client:
        assert client.get(f"/v1/documents/{tenants['red'].doc_id}").status_code == 200
        assert client.get(f"/v1/documents/{tenants['blue'].doc_id}").status_code == 404
        assert client.get("/v1/documents", params={"tenant": "blue"}).status_code == 403


def test_a_key_is_for_the_collections_that_it_names(
    server: Server, ring: KeyRing, tenants: dict[str, Tenant]
) -> None:
    red = tenants["red"]
    copy_collection(server.settings, "quire", "second")
    ask = {"text": "secret plan", "rerank": "none"}
    second = {"collection": "second"}
    for route, body in (("/v1/search", ask), (f"/v1/documents/{red.doc_id}", None)):
        method = "POST" if body else "GET"
        own = red.client.request(method, route, json=body)
        assert own.status_code == 200
        assert problem(red.client.request(method, route, json=body, params=second))[0] == 403
    _, text = ring.create("red", ("search", "ingest"), collections=("second", "nowhere"))
    with with_key(server, text) as client:
        hits = client.post("/v1/search", json=ask, params=second).json()["hits"]
        assert {hit["doc_id"] for hit in hits} == {red.doc_id}
        image = client.get(hits[0]["image_url"])
        assert image.headers["content-type"] == "image/jpeg"
        nowhere = client.get("/v1/documents", params={"collection": "nowhere"})
        assert problem(nowhere) == (404, "not_found")
        assert problem(client.get("/v1/documents", params={"collection": "../x"}))[0] == 400
        assert client.delete(f"/v1/documents/{red.doc_id}", params=second).status_code == 200
    assert red.client.get(f"/v1/documents/{red.doc_id}").status_code == 200
    assert red.client.post("/v1/search", json=ask).json()["hits"]
