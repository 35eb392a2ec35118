"""What KubeRay's resources may hold: names, kinds and what must be there, of the API ray.io/v1.

Written after the operator's own types of its API (ray-operator/apis/ray/v1, fields of 1.6). Pods
are Kubernetes' own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from lightkube.models.core_v1 import (
    EnvFromSource,
    EnvVar,
    PodTemplateSpec,
    ResourceRequirements,
    SecurityContext,
    Service,
    VolumeMount,
)
from lightkube.models.meta_v1 import ObjectMeta
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """A word that is not a field is an error."""


class AutoscalerOptions(Strict):
    resources: ResourceRequirements | None = None
    image: str | None = None
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None
    env: list[EnvVar] | None = None
    envFrom: list[EnvFromSource] | None = None
    volumeMounts: list[VolumeMount] | None = None
    securityContext: SecurityContext | None = None
    idleTimeoutSeconds: Count | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    version: Literal["v1", "v2"] | None = None


class AuthOptions(Strict):
    mode: Literal["disabled", "token"] | None = None


class HeadGroupSpec(Strict):
    template: PodTemplateSpec
    rayStartParams: dict[str, str]
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = None
    headService: Service | None = None
    enableIngress: bool | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ScaleStrategy(Strict):
    workersToDelete: list[str] | None = None


class WorkerGroupSpec(Strict):
    groupName: str
    template: PodTemplateSpec
    rayStartParams: dict[str, str]
    minReplicas: Count
    maxReplicas: Count
    replicas: Count | None = None
    numOfHosts: Count | None = None
    idleTimeoutSeconds: Count | None = None
    suspend: bool | None = None
    resources: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    scaleStrategy: ScaleStrategy | None = None


class RayClusterSpec(Strict):
    headGroupSpec: HeadGroupSpec
    workerGroupSpecs: list[WorkerGroupSpec] | None = None
    rayVersion: str | None = None
    authOptions: AuthOptions | None = None
    managedBy: Literal["ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"] | None = None
    enableInTreeAutoscaling: bool | None = None
    autoscalerOptions: AutoscalerOptions | None = None
    headServiceAnnotations: dict[str, str] | None = None
    suspend: bool | None = None


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: ObjectMeta
    spec: RayClusterSpec


class SubmitterConfig(Strict):
    backoffLimit: Count | None = None


class RayJobSpec(Strict):
    entrypoint: str | None = None
    runtimeEnvYAML: str | None = None
    jobId: str | None = None
    metadata: dict[str, str] | None = None
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = (
        None
    )
    submitterPodTemplate: PodTemplateSpec | None = None
    submitterConfig: SubmitterConfig | None = None
    entrypointNumCpus: float | None = None
    entrypointNumGpus: float | None = None
    entrypointResources: str | None = None
    rayClusterSpec: RayClusterSpec | None = None
    clusterSelector: dict[str, str] | None = None
    shutdownAfterJobFinishes: bool | None = None
    ttlSecondsAfterFinished: Count | None = None
    activeDeadlineSeconds: Annotated[int, Meta(gt=0)] | None = None
    backoffLimit: Count | None = None
    suspend: bool | None = None


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: ObjectMeta
    spec: RayJobSpec
