"""When a job has ended."""

import pytest
from ray.job_submission import JobStatus

from t2g_ray.run.job.state import Job


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_has_ended_where_ray_says_so(status: JobStatus) -> None:
    job = Job(name="a", status=str(status), command="", message="", started_s=None, ended_s=None)
    assert job.has_ended == status.is_terminal()
