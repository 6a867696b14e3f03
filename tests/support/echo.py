"""A deployment that does nothing: what a new one needs beside its row in the table."""

from cluster.deployments import DeploymentSpec, DeviceScaling
from cluster.settings import Settings
from serve.deployments.models import ServedModels
from serve.deployments.start import ModelDeployment

ECHO = DeploymentSpec(
    name="echo",
    title="echo",
    role="echo",
    class_path="tests.support.echo:EchoDeployment",
    settings_field="echo_replicas",
    default=DeviceScaling(cpus=3, gpus=0),
)


class EchoDeployment(ModelDeployment):
    """One replica."""

    def __init__(self, spec: DeploymentSpec, settings: Settings, models: ServedModels) -> None:
        super().__init__(spec, settings)
