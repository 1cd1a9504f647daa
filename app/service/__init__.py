"""One model for many visitors: a queue, one worker, and jobs that never see each other.

No Gradio here, and no browser needed to test it.
"""

from app.service.core import Service
from app.service.errors import QueueFullError, ServiceClosedError
from app.service.job import ACTIVE, Job, State, Update
from app.service.request import Admitted, JobRequest, Limits, admit

__all__ = [
    "ACTIVE",
    "Admitted",
    "Job",
    "JobRequest",
    "Limits",
    "QueueFullError",
    "Service",
    "ServiceClosedError",
    "State",
    "Update",
    "admit",
]
