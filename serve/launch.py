"""Run the application: on a Ray of our own, or on a cluster."""

import logging
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ray import serve

from cluster.capacity.shares import check_gpu_shares
from cluster.deployments import DEPLOYMENTS
from cluster.errors import InvalidInput, ModelUnavailable
from cluster.runtime import cluster_gpus, ray_session, require_gpus
from cluster.settings import Settings
from serve.app import APP, LOGGING, application, gpu_shares_chosen, reserved_cpus
from serve.auth.keys import KeyRing

log = logging.getLogger("quire")


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The service runs while the context is open; yields its URL once it answers.

    Call `prepare_serving` before this module is imported.

    Raises InvalidInput where it must not or cannot listen, ModelUnavailable.
    """
    _check_keys(settings)
    _check_port(settings)
    with ray_session(settings, extra_cpus=reserved_cpus(settings)):
        settings = gpu_shares_chosen(settings)
        _check_gpus(settings)
        app = application(settings, is_local=settings.is_local)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # what it does is no news
        serve.start(http_options={"host": settings.host, "port": settings.port})
        try:
            try:
                serve.run(app, name=APP, route_prefix="/", logging_config=LOGGING)
            except RuntimeError as error:
                raise ModelUnavailable(f"the service did not come up: {_why(error)}") from error
            yield f"http://{_named(settings.host)}:{settings.port}"
        finally:
            # Not serve.shutdown(): with its proxy in C that waits half a minute for nothing.
            serve.delete(APP)


def _check_keys(settings: Settings) -> None:
    if settings.is_local or settings.allow_anonymous:
        return
    if not any(not key.revoked for key in KeyRing(settings.keys_path).keys()):  # noqa: SIM118
        raise InvalidInput(
            f"whoever can reach {settings.host} could use this service, and there is no key yet: "
            "create one with `quire keys create`, or say --allow-anonymous"
        )


def _check_gpus(settings: Settings) -> None:
    """Ray Serve would wait for ever; on a cluster an autoscaler may bring what lacks."""
    if settings.ray_address:
        return
    for spec in DEPLOYMENTS:
        scaling = spec.scaling(settings)
        share = scaling.min_replicas * (scaling.gpus or 0)
        if share:
            require_gpus(share, scaling.gpu_kind, f"the deployment of the {spec.title}")
    if cluster_gpus() and (problem := check_gpu_shares(settings, int(cluster_gpus()))):
        log.warning("%s", problem)


def _why(error: RuntimeError) -> str:
    """Gather what the deployments say; Ray Serve's own error only names them."""
    application_status = serve.status().applications.get(APP)
    messages = (
        [each.message for each in application_status.deployments.values() if each.message]
        if application_status
        else []
    )
    return " ".join([str(error), *(message.strip().splitlines()[-1] for message in messages)])


def _check_port(settings: Settings) -> None:
    """Ray Serve's proxy would try again for ever."""
    if settings.ray_address:
        return  # it listens on other machines
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise InvalidInput(
                f"nothing can listen on {settings.host}:{settings.port} ({error.strerror}): name "
                "another with --port"
            ) from error


def _named(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 — compared, not listened on
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
