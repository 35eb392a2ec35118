"""cluster.yaml, held against Ray's schema, Amazon's model of its API, and the run that it is for.

Nothing here reaches AWS: that an image or a quota exists is not shown.
"""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from actors.cluster.devices import Node
from actors.cluster.placement import demands_of, place
from t2g_ray.planning.cluster import INSTANCES
from tests.unit.configs.parts import ROOT, check_roles_of_nodes, cluster_8x, shellcheck

CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
KINDS: dict[str, Any] = CLUSTER["available_node_types"]
COMMANDS = [name for name in CLUSTER if name.endswith("_commands")]

HARDWARE = {"m7i.4xlarge": (16, 0), "g6e.12xlarge": (48, 4), "g6e.2xlarge": (8, 1)}
"""CPUs and GPUs of the types of instances that are asked for, as Amazon lists them."""


@cache
def api() -> Any:
    """Amazon's model of its API of machines."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("ec2", "service-2"))


def words_against(cluster: dict[str, Any]) -> str:
    """What Ray's schema has against a cluster; empty for nothing."""
    try:
        validate_config(prepare_config(copy.deepcopy(cluster)))
    except ValidationError as error:
        return str(error)
    return ""


def faults_of(request: dict[str, Any]) -> str:
    """What is wrong with a request for machines; empty for nothing."""
    from botocore.validate import ParamValidator

    shape = api().operation_model("RunInstances").input_shape
    report: str = ParamValidator().validate(request, shape).generate_report()
    return report


def nodes(**number: int) -> list[Node]:
    """The nodes that are there when the cluster has started, or `number` of some kinds."""
    found = []
    for kind, one in KINDS.items():
        cpus, gpus = HARDWARE[one["node_config"]["InstanceType"]]
        resources = {"CPU": float(cpus), "GPU": float(gpus), **one["resources"]}
        several = number.get(kind, one.get("min_workers", 1))
        found += [Node(f"{kind}/{i}", resources) for i in range(several)]
    return found


def test_the_file_passes_the_schema_of_ray() -> None:
    assert words_against(CLUSTER) == ""


def test_a_word_that_the_schema_does_not_know_is_found() -> None:
    wrong = copy.deepcopy(CLUSTER)
    wrong["available_node_types"]["spot"]["min_worker"] = 1
    assert "'min_worker' was unexpected" in words_against(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_node_is_a_request_that_amazon_knows(kind: str) -> None:
    request = KINDS[kind]["node_config"]
    assert faults_of({**request, "MinCount": 1, "MaxCount": 1}) == ""
    assert request["InstanceType"] in api().shape_for("InstanceType").enum
    for disk in request["BlockDeviceMappings"]:
        assert disk["Ebs"]["VolumeType"] in api().shape_for("VolumeType").enum
    market = request.get("InstanceMarketOptions", {"MarketType": "spot"})
    assert market["MarketType"] in api().shape_for("MarketType").enum


def test_a_request_that_amazon_does_not_know_is_found() -> None:
    request = {**KINDS["spot"]["node_config"], "MinCount": 1, "MaxCount": 1}
    assert "Unknown parameter" in faults_of({**request, "MarketOptions": {}})
    assert "Invalid type" in faults_of({**request, "BlockDeviceMappings": {"Ebs": 1}})


def test_the_region_and_its_zone_are_there() -> None:
    from botocore.loaders import Loader

    region = CLUSTER["provider"]["region"]
    partitions = Loader().load_data("endpoints")["partitions"]
    known = next(one["regions"] for one in partitions if one["partition"] == "aws")
    assert region in known
    assert re.fullmatch(rf"{region}[a-f]", CLUSTER["provider"]["availability_zone"])
    mounts = [line for line in CLUSTER["initialization_commands"] if "mount -t" in line]
    assert [re.findall(r"fs-0+\.efs\.([\w-]+)\.", line) for line in mounts] == [[region]]


def test_what_is_paid_for_is_what_the_configuration_uses() -> None:
    check_roles_of_nodes(nodes())


def test_the_configuration_is_planned_for_these_machines() -> None:
    machines = [
        f"{kind.get('min_workers', 1)} x {kind['node_config']['InstanceType']} for "
        + " and ".join(kind["resources"])
        for kind in KINDS.values()
    ]
    config = cluster_8x()
    assert config.cluster == ", ".join(machines)
    for name, (cpus, gpus) in HARDWARE.items():
        assert (INSTANCES[name].cpus, len(INSTANCES[name].cards)) == (cpus, gpus)


def test_more_rollout_actors_find_a_device_each_on_more_spot_nodes() -> None:
    most = KINDS["spot"]["max_workers"]
    config = cluster_8x(f"rollout.actors={most}")
    placement = place(demands_of(config), nodes(spot=most))
    assert all(len(slot.holders) == 1 for slot in placement.slots)
    assert CLUSTER["max_workers"] == sum(kind.get("max_workers", 0) for kind in KINDS.values())


def test_only_nodes_for_samplers_alone_can_be_taken_away() -> None:
    on_the_market = {
        kind for kind, one in KINDS.items() if "InstanceMarketOptions" in one["node_config"]
    }
    assert [KINDS[kind]["resources"].keys() for kind in on_the_market] == [{"rollout"}]


def test_all_nodes_have_what_the_configuration_names_by_path() -> None:
    config = cluster_8x()
    paths = [config.run_dir.as_posix(), str(config.data.train), str(config.data.heldout)]
    assert all(path.startswith("/shared/") for path in paths)
    assert any(line.endswith(":/ /shared") for line in CLUSTER["initialization_commands"])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_nodes_are_clean_bash(name: str) -> None:
    # Ray sets the address, and the environments that are activated are not here.
    quiet = "# shellcheck disable=SC1090,SC1091"
    for line in CLUSTER[name]:
        assert shellcheck(f"{quiet}\nexport RAY_HEAD_IP=10.0.0.1\n{line}\n") == "", line


def test_jobs_need_a_token_and_secrets_are_not_copied_to_nodes() -> None:
    starts = [*CLUSTER["head_start_ray_commands"], *CLUSTER["worker_start_ray_commands"]]
    assert all(line.startswith("export RAY_AUTH_MODE=token && ") for line in starts)
    assert CLUSTER["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert {"**/.env", "**/.env.*", "**/*.pem", "**/*.key", ".git"} <= set(CLUSTER["rsync_exclude"])
