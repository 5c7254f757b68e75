"""Schema of the fields of KubeRay 1.5's custom resources, written from its Go types (ray-operator/apis/ray/v1).

Pod templates are checked against the schemas of Kubernetes instead.
"""

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


TEXT, WHOLE, BOOLEAN = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY: dict[str, Any] = {}

_AUTOSCALER = _object(
    [], resources=ANY, image=TEXT, imagePullPolicy=TEXT, env=ANY, envFrom=ANY, volumeMounts=ANY, securityContext=ANY,
    idleTimeoutSeconds=WHOLE, upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
)  # fmt: skip
_HEAD = _object(
    ["template"], serviceType=TEXT, headService=ANY, enableIngress=BOOLEAN, rayStartParams=TEXTS, template=ANY,
    resources=TEXTS, labels=TEXTS,
)  # fmt: skip
_WORKERS = _object(
    ["groupName", "minReplicas", "maxReplicas", "template"], groupName=TEXT, replicas=WHOLE, minReplicas=WHOLE,
    maxReplicas=WHOLE, numOfHosts=WHOLE, rayStartParams=TEXTS, template=ANY, scaleStrategy=ANY, suspend=BOOLEAN,
    idleTimeoutSeconds=WHOLE, resources=TEXTS, labels=TEXTS,
)  # fmt: skip
CLUSTER_SPEC = _object(
    ["headGroupSpec"], headGroupSpec=_HEAD, workerGroupSpecs={"type": "array", "items": _WORKERS}, rayVersion=TEXT,
    enableInTreeAutoscaling=BOOLEAN, autoscalerOptions=_AUTOSCALER, headServiceAnnotations=TEXTS, suspend=BOOLEAN,
    authOptions=_object(["mode"], mode={"enum": ["disabled", "token"]}), gcsFaultToleranceOptions=ANY, managedBy=TEXT,
)  # fmt: skip
JOB_SPEC = _object(
    ["entrypoint"], activeDeadlineSeconds=WHOLE, backoffLimit=WHOLE, rayClusterSpec=CLUSTER_SPEC,
    submitterPodTemplate=ANY, metadata=TEXTS, clusterSelector=TEXTS, submitterConfig=_object([], backoffLimit=WHOLE),
    managedBy=TEXT, deletionStrategy=ANY, entrypoint=TEXT, runtimeEnvYAML=TEXT, jobId=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]}, entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"}, entrypointNumGpus={"type": "number"}, ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=BOOLEAN, suspend=BOOLEAN,
)  # fmt: skip

SERVICE_SPEC = _object(
    ["rayClusterConfig"], serveConfigV2=TEXT, rayClusterConfig=CLUSTER_SPEC, serveService=ANY, upgradeStrategy=ANY,
    rayClusterDeletionDelaySeconds=WHOLE, serviceUnhealthySecondThreshold=WHOLE,
    deploymentUnhealthySecondThreshold=WHOLE, excludeHeadPodFromServeSvc=BOOLEAN, suspend=BOOLEAN, managedBy=TEXT,
)  # fmt: skip


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Schema of a whole manifest."""
    return _object(
        ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "ray.io/v1"}, kind={"const": kind},
        metadata=ANY, spec=spec,
    )  # fmt: skip
