"""The commands of docs/cluster.md for AWS, held against Amazon's model of its API."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from tests.unit.configs.parts import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()
OF_THE_COMMAND = {"query", "output"}
SHORT_FORMS = {
    "authorize-security-group-ingress": {"protocol", "port", "cidr", "source-group"},
}
"""Options that the command `aws` has and its API writes as IpPermissions."""


def commands() -> Iterator[list[str]]:
    """Every `aws ...` of the page, as words."""
    lines = PAGE.replace("\\\n", " ")
    for found in re.findall(r"\$?\(?\b(aws (?:ec2|efs) [^\n]*)", lines):
        yield shlex.split(found.removesuffix(")"))


def test_the_page_makes_a_group_a_file_system_and_its_mount() -> None:
    made = [(words[1], words[2]) for words in commands()]
    assert {
        ("ec2", "create-security-group"),
        ("efs", "create-file-system"),
        ("efs", "create-mount-target"),
    } <= set(made)


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[2])
def test_a_command_and_its_options_are_there(words: list[str]) -> None:
    from botocore import xform_name
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    api = ServiceModel(Loader().load_service_model(words[1], "service-2"))
    names = {xform_name(name, "-"): name for name in api.operation_names}
    known = {xform_name(m, "-") for m in api.operation_model(names[words[2]]).input_shape.members}
    options = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    assert options - OF_THE_COMMAND - SHORT_FORMS.get(words[2], set()) - known == set()


def test_what_the_page_replaces_stands_in_the_file() -> None:
    (placeholder,) = re.findall(r'sed -i "s/([^/]+)/\$fs/" cluster.yaml', PAGE)
    cluster = (ROOT / "cluster.yaml").read_text()
    assert f" {placeholder}.efs." in cluster
    group = re.findall(r"--group-name (\S+)", PAGE)
    assert f"GroupName: {group[0]}" in cluster
