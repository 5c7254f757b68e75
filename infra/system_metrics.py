"""MLflow's system metrics of this machine (CPU, memory, disk, network, GPUs), logged to a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.tracking import Tracking


@contextmanager
def system_metrics(tracking: Tracking, run_id: str, node: str | None = None) -> Iterator[None]:
    """Samples every 10 s while the body runs. `node` distinguishes the machines of a run.

    A failed request does not affect the body: the monitor continues when the server responds again.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        def monitor(self) -> None:
            """MLflow's own loop ends at the first failed request; this one starts it again."""
            while not self._shutdown_event.is_set():
                super().monitor()

    monitor = Monitor(run_id, resume_logging=True, node_id=node, tracking_uri=tracking.mlflow_uri)
    monitor.start()
    try:
        yield
    finally:
        monitor._shutdown_event.set()  # noqa: SLF001 `finish` would wait for a server that is unreachable
