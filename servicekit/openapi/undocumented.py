"""Terms of views that are not ours."""

from .operation import ResponseSpec, operation


@operation(
    "readMetrics",
    tag="service",
    responses={
        200: ResponseSpec(
            "All metrics, in the form that `Accept` asks for.", types=("text/plain", "application/openmetrics-text")
        )
    },
)
def prometheus_metrics() -> None:
    """Read the metrics.

    Those of HTTP, of the breakers and of the service itself, for all workers of the host. `name[]`, as often as it is
    given, chooses some of them.
    """


#: by endpoint
FOREIGN = {"prometheus_metrics": prometheus_metrics}
