"""Jobs that are listed and stopped; uploads that take another document's place."""

import httpx

from tests.support.client import a_pdf, finished, problem, search


def upload(client: httpx.Client, text: str, **fields: str) -> httpx.Response:
    return client.post("/v1/documents", files={"files": ("valve.pdf", a_pdf(text))}, data=fields)


def test_a_new_version_by_the_same_name(client: httpx.Client) -> None:
    """It is noticed, its job can be stopped, and it replaces the old one where that is asked."""
    first = upload(client, "The valve closes at 11 bar.").json()
    assert first["same_name"] == []
    assert finished(client, first["job_id"])[-1]["status"] == "succeeded"
    old = search(client, text="valve closes", top_k=1)["hits"][0]["doc_id"]

    change = {"title": "Valves", "tags": ["plant"], "metadata": {"bar": 11}}
    changed = client.patch(f"/v1/documents/{old}", json=change).json()
    assert {name: changed[name] for name in change} == change
    found = search(client, text="valve closes", filters={"tags": ["plant"]}, top_k=1)["hits"]
    assert [(hit["title"], hit["metadata"]) for hit in found] == [("Valves", {"bar": 11})]
    assert problem(client.patch(f"/v1/documents/{old}", json={"pages": 3}))[0] == 400
    assert problem(client.patch(f"/v1/documents/{'0' * 32}", json={"tags": []}))[0] == 404

    second = upload(client, "The valve closes at 12 bar.")
    assert second.json()["same_name"] == [{"name": "valve.pdf", "doc_id": old}]
    stopped = client.delete(f"/v1/jobs/{second.json()['job_id']}")
    assert stopped.status_code == 202
    assert finished(client, second.json()["job_id"])[-1]["status"] == "cancelled"
    jobs = client.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["job_id"] for job in jobs["jobs"]] == [second.json()["job_id"], first["job_id"]]
    assert (jobs["jobs"][0]["kind"], jobs["jobs"][0]["files"]) == ("ingest", ["valve.pdf"])
    assert jobs["total"] >= 2
    assert client.get("/v1/jobs", params={"tenant": "nobody"}).json()["total"] == 0

    third = upload(client, "The valve closes at 13 bar.", replaces=old).json()
    assert finished(client, third["job_id"])[-1]["status"] == "succeeded"
    assert problem(client.get(f"/v1/documents/{old}"))[0] == 404
    new = search(client, text="valve closes", top_k=1)["hits"][0]
    assert "13 bar" in new["snippet"]
    assert problem(upload(client, "x", replaces=old))[0] == 404
    assert client.delete(f"/v1/documents/{new['doc_id']}").status_code == 200  # others use it, too
