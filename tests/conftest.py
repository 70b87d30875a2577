"""What holds for every test: one thread, no telemetry, nobody's own MLflow or Prefect server."""

import os
from uuid import uuid4

os.environ |= {
    "OMP_NUM_THREADS": "1",  # two busy torch threads on a shared core slow each other many times
    "OPENCV_FOR_THREADS_NUM": "1",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "HF_HUB_OFFLINE": "1",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid4().hex,  # Ray would leave one in the home folder
}
for name in (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "PREFECT_API_URL",
    "MOTIVE_DEBUG",
):
    os.environ.pop(name, None)

# After the above: they load what asks for threads.
pytest_plugins = (
    "testing.flow_project",
    "testing.model_project",
    "testing.recorded_project",
    "testing.sketched_pool",
    "testing.small_clips",
    "testing.toy_pipeline",
    "testing.toy_stage",
)
