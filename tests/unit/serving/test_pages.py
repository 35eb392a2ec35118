"""The pages in a browser: no other host, no foreign code, every field labelled."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_name_no_other_host_and_run_only_their_own_code(
    client: TestClient, path: str
) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == len(re.findall(r"<script>|<style>", reply.text)) == 2
    hosts = set(re.findall(r"https?://[^\s\"'<>]+", reply.text))
    assert hosts <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\son\w+=|\sstyle=|<script \w|<link rel=.stylesheet", reply.text)


def test_every_field_of_the_page_has_a_label(client: TestClient) -> None:
    html = client.get("/").text
    labelled = set(re.findall(r'<label for="([\w-]+)"', html))
    fields = set(re.findall(r'<(?:textarea|input type="text") id="([\w-]+)"', html))
    assert fields == labelled == {"text", "entity-types", "relation-types"}
