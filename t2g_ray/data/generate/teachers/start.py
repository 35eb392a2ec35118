"""Configuration -> a teacher that answers."""

from __future__ import annotations

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.teachers.teacher import Teacher


def start_teacher(config: TeacherConfig) -> Teacher:
    """The teacher that the configuration names, ready to answer."""
    if config.base_url is not None:
        from t2g_ray.data.generate.teachers.endpoint import EndpointTeacher

        return EndpointTeacher(config)
    from t2g_ray.data.generate.teachers.vllm_teacher import EngineTeacher

    return EngineTeacher(config)


def check_teacher(config: TeacherConfig) -> None:
    """Raises ValueError for a teacher that cannot answer, before anything is started."""
    if config.base_url is not None:
        from t2g_ray.data.generate.teachers.endpoint import check_endpoint

        check_endpoint(config)
        return
    from t2g_ray.data.generate.teachers.vllm_teacher import check_teacher_model

    check_teacher_model(config)
