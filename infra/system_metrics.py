"""MLflow's system metrics of this machine (CPU, memory, disk, network, GPUs) in a run, as its page shows them."""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.tracking import Tracking


@contextmanager
def system_metrics(tracking: Tracking, run_id: str, node: str | None = None) -> Iterator[None]:
    """Samples every 10 s while the body runs; `node` names one machine among several. A failure costs nothing else."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    class Monitor(SystemMetricsMonitor):
        def monitor(self) -> None:
            """MLflow's ends at the first request that fails; a server that was away comes back."""
            while not self._shutdown_event.is_set():
                super().monitor()

    monitor = Monitor(run_id, resume_logging=True, node_id=node, tracking_uri=tracking.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor._shutdown_event.set()  # noqa: SLF001 `finish` would wait for a server that is away
