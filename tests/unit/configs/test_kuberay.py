"""configs/kuberay.yaml: its resources by their types, and the run that the cluster is for.

Kubernetes' types come from its published models; those of KubeRay stand in `kuberay_types`. Ray's
autoscaler reads the cluster with its own code. No cluster of Kubernetes is here.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr as read_by_the_autoscaler,
)
from ray.autoscaler._private.util import validate_config

from actors.cluster.devices import Node
from actors.cluster.placement import demands_of, place
from actors.jobs import STOP_WAIT_S
from actors.submit import SECRETS_HOOK
from t2g_ray.config import GrpoConfig, load_config
from t2g_ray.run.job.secrets import VARIABLE
from tests.unit.configs.parts import ROOT, check_roles_of_nodes, cluster_8x

DOCUMENTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "configs" / "kuberay.yaml").read_text())
)
CLUSTER, JOB = DOCUMENTS[-2:]


def checked(document: dict[str, Any]) -> None:
    """Raises for a field that is missing, unknown or of another kind."""
    from lightkube.models.core_v1 import PersistentVolumeClaim
    from lightkube.models.networking_v1 import NetworkPolicy
    from msgspec import convert, to_builtins

    from tests.unit.configs.kuberay_types import RayCluster, RayJob

    kinds = {
        "PersistentVolumeClaim": PersistentVolumeClaim,
        "NetworkPolicy": NetworkPolicy,
        "RayCluster": RayCluster,
        "RayJob": RayJob,
    }
    read = to_builtins(convert(document, kinds[document["kind"]], strict=True))
    assert not (lost := lost_words(document, read)), f"no fields: {lost}"


def lost_words(written: Any, read: Any, place: str = "") -> list[str]:
    """Fields that a type does not have, which its reader leaves out."""
    if isinstance(written, dict) and isinstance(read, dict):
        lost = [f"{place}.{key}" for key in written if key not in read]
        inner = ((f"{place}.{k}", written[k], read[k]) for k in written if k in read)
    elif isinstance(written, list) and isinstance(read, list):
        lost, inner = [], ((place, *pair) for pair in zip(written, read, strict=True))
    else:
        return []
    return lost + [word for where, one, other in inner for word in lost_words(one, other, where)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_each_resource_has_the_fields_of_its_type(document: dict[str, Any]) -> None:
    checked(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("workerGroupSpecs", 1, "minReplica"), 4),
        (("workerGroupSpecs", 1, "minReplicas"), "4"),
        (("workerGroupSpecs", 1, "template", "spec", "container"), []),
        (("headGroupSpec", "template", "spec", "containers", 0, "resources", "limit"), {}),
        (("headGroupSpec", "rayStartParams", "num-gpus"), 0),
        (("autoscalerOptions", "upscalingMode"), "Fast"),
    ],
    ids=lambda value: str(value[-1]) if isinstance(value, tuple) else "",
)
def test_a_field_that_is_not_one_is_found(place: tuple[str | int, ...], value: object) -> None:
    wrong = copy.deepcopy(CLUSTER)
    at: Any = wrong["spec"]
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    with pytest.raises((AssertionError, ValueError)):
        checked(wrong)


def groups() -> dict[str, Any]:
    """What Ray's autoscaler makes of the groups of pods."""
    resource = copy.deepcopy(CLUSTER)
    resource["metadata"]["namespace"] = "default"
    config = read_by_the_autoscaler(resource)
    validate_config(config)
    found: dict[str, Any] = config["available_node_types"]
    return found


def nodes(**number: int) -> list[Node]:
    """The nodes that are there when the cluster has started, or `number` of some groups."""
    found = []
    for name, group in groups().items():
        several = 1 if name == "headgroup" else number.get(name, group["min_workers"])
        found += [Node(f"{name}/{i}", group["resources"]) for i in range(several)]
    return found


def test_the_autoscaler_reads_the_groups_and_their_devices() -> None:
    resources = {name: group["resources"] for name, group in groups().items()}
    assert resources["headgroup"]["GPU"] == 0
    assert resources["main"].items() >= {"CPU": 40, "GPU": 4, "learner": 1}.items()
    assert resources["spot"].items() >= {"CPU": 7, "GPU": 1, "rollout": 1}.items()


def test_what_is_asked_for_is_what_the_configuration_uses() -> None:
    check_roles_of_nodes(nodes())


def test_the_group_that_grows_is_one_of_samplers_alone() -> None:
    grown = {name for name, one in groups().items() if one["max_workers"] > one["min_workers"]}
    assert grown - {"headgroup"} == {"spot"}
    assert place(demands_of(cluster_8x("rollout.actors=8")), nodes(spot=8)).slots


def test_requests_and_limits_agree_so_that_ray_counts_what_a_pod_has() -> None:
    spec = CLUSTER["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for container in (pod["template"]["spec"]["containers"][0] for pod in pods):
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["image"].startswith("REGISTRY/t2g-ray:")
    mounted = {m["mountPath"] for m in pods[0]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert {"/shared", "/secrets", "/dev/shm"} == mounted


def test_the_job_runs_on_this_cluster_with_time_to_end_and_secrets_from_files() -> None:
    assert JOB["spec"]["clusterSelector"] == {"ray.io/cluster": CLUSTER["metadata"]["name"]}
    runtime = yaml.safe_load(JOB["spec"]["runtimeEnvYAML"])
    assert runtime == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
    with_secrets = yaml.safe_load(JOB["spec"]["runtimeEnvYAML"].replace("# ", ""))
    assert json.loads(with_secrets["env_vars"][VARIABLE]) == {"HF_TOKEN": "/secrets/HF_TOKEN"}
    assert with_secrets["worker_process_setup_hook"] == SECRETS_HOOK
    file, *overrides = JOB["spec"]["entrypoint"].split()[2:]
    config = load_config(GrpoConfig, ROOT / file.removeprefix("/opt/t2g-ray/"), overrides)
    assert config.run_dir.as_posix().startswith("/shared/")


def test_no_group_names_the_resources_of_its_pods_twice() -> None:
    # The operator refuses a group with both.
    spec = CLUSTER["spec"]
    assert all("resources" not in group for group in spec["workerGroupSpecs"])
    assert all("restartPolicy" not in g["template"]["spec"] for g in spec["workerGroupSpecs"])


def test_only_pods_of_the_cluster_and_the_operator_reach_it_and_jobs_need_a_token() -> None:
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    assert CLUSTER["spec"]["rayVersion"] == ray.__version__
    policy = DOCUMENTS[1]["spec"]
    assert policy["podSelector"]["matchLabels"] == JOB["spec"]["clusterSelector"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert all(peer["podSelector"]["matchLabels"] for peer in rule["from"])


def test_the_page_raises_the_number_of_the_group_that_grows() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    (index,) = re.findall(r'"/spec/workerGroupSpecs/(\d)/minReplicas"', page)
    assert CLUSTER["spec"]["workerGroupSpecs"][int(index)]["groupName"] == "spot"
