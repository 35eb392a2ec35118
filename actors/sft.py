"""SFT configuration -> a Ray Train run of DeepSpeed ranks -> the run folder with a trained model.

Invariant: the run ends with the model written or with the first failure's own message; nothing is
retried in silence.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import ray
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util import get_node_ip_address

from actors.cluster.handles import process_variables
from actors.cluster.placement import Placement, connect, demands_of, options_of, place_now
from actors.cluster.refusal import check_device
from actors.cluster.storage.kept import KeptRun
from actors.cluster.storage.nodes import prepare_nodes
from actors.watch import trackers
from actors.watch.gauges import StepGauges, run_tag
from t2g_ray.config import SftConfig
from t2g_ray.learner.ranks import backends
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import last_json_line
from t2g_ray.run.progress import StageProgress
from t2g_ray.run.resume.ending import kept_failure
from t2g_ray.run.resume.lock import held
from t2g_ray.run.resume.start import resume_step, tell
from t2g_ray.sft.plan import SftPlan, num_steps, plan_sft

LOOK_EVERY_S = 0.5

_log = logging.getLogger(__name__)


def run_sft(config: SftConfig) -> RunDir:
    """Train as configured and return the run folder, which then holds `model/`.

    Raises ValueError for bad input, before a process starts where possible, and RuntimeError with
    the message of the rank that failed.
    """
    check_device(config.device, config.deadlines)
    trackers.check(config)
    with held(config.run_dir):
        kept = KeptRun(config, RunDir(config.run_dir))
        kept.open()
        plan = plan_sft(config)
        run_dir = RunDir(plan.config.run_dir)
        if plan.is_finished:
            tell(f"{run_dir.path} is finished, model and all: nothing is changed in it")
            return run_dir
        try:
            kept.push()
            scaling = _scaled(plan)
        except BaseException:
            # Nothing was trained: the corrected command must find the folder as empty as it was.
            if plan.is_new:
                kept.remove_all()
            raise
        if plan.start is not None:
            kept.discard_after(plan.start.step)
        step = resume_step(plan.is_new, plan.start)
        with kept_failure(run_dir), trackers.tracked(plan.config, run_dir, step):
            _fit(plan, scaling)
        if not (run_dir.model / "config.json").is_file():
            kept.fetch()
    if not (run_dir.model / "config.json").is_file():
        raise RuntimeError(
            f"run_dir must be on storage that all nodes share, found no model in {run_dir.model} "
            "although the ranks wrote it; give a shared folder"
        )
    return run_dir


def _scaled(plan: SftPlan) -> ScalingConfig:
    """Join the cluster and see that it can hold the ranks, on nodes that share the run folder.

    Raises PlacementError where it cannot.
    """
    connect(plan.config.deadlines)
    placement = place_now(demands_of(plan.config))
    checkpoint = plan.start.path.name if plan.start else ""
    # Ray Train chooses the nodes, and each rank uploads by itself.
    prepare_nodes(plan.config, placement, plan.model, checkpoint=checkpoint, is_planned=False)
    return _scaling(plan.config, placement)


def _fit(plan: SftPlan, scaling: ScalingConfig) -> None:
    """Run the ranks to their end."""
    config = plan.config
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(config.deadlines.start_s)
    trainer = TorchTrainer(
        _train,
        train_loop_config={"plan": plan},
        torch_config=_torch_config(config),
        scaling_config=scaling,
        run_config=_run_config(config),
    )
    with _progress(plan):
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _failure(error) from error


def _train(arguments: dict[str, SftPlan]) -> None:
    """What each Ray Train worker runs."""
    plan = arguments["plan"]
    try:
        _run_rank(plan)
    except Exception as error:
        # Boundary: the driver sees the error, and not where it was raised.
        gpus = ",".join(map(str, ray.get_gpu_ids()))
        error.add_note(f"{f'GPU {gpus} of ' if gpus else ''}node {get_node_ip_address()}")
        raise


def _run_rank(plan: SftPlan) -> None:
    import torch
    from transformers.utils.logging import disable_progress_bar

    from t2g_ray.learner.ranks import join_ranks
    from t2g_ray.sft.rank import run_sft_rank

    context = ray.train.get_context()
    rank, num_ranks = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(plan.config.learner.threads)
    disable_progress_bar()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    local_rank = os.environ["LOCAL_RANK"]
    join_ranks(
        rank=rank,
        num_ranks=num_ranks,
        address=os.environ["MASTER_ADDR"],
        port=int(os.environ["MASTER_PORT"]),
        is_cpu=not plan.config.learner.gpus,
    )
    # Ray Train shows all GPUs of the node to each worker; DeepSpeed takes the one of this number.
    os.environ["LOCAL_RANK"] = local_rank
    run_sft_rank(plan, rank=rank, num_ranks=num_ranks)


def _torch_config(config: SftConfig) -> TorchConfig:
    """The group that Ray makes and DeepSpeed takes over."""
    return TorchConfig(
        backend=backends(is_cpu=not config.learner.gpus),
        # Ranks wait for each other in steps and in checkpoints.
        timeout_s=round(max(config.deadlines.train_s, config.deadlines.save_s)),
    )


def _scaling(config: SftConfig, placement: Placement) -> ScalingConfig:
    """Resources of each rank."""
    rank = placement.demands[0]
    resources = {"CPU": rank.cpus, **({"GPU": rank.gpus} if rank.gpus else {})}
    resources.update(options_of(rank)["resources"])
    return ScalingConfig(
        num_workers=config.learner.ranks, use_gpu=rank.gpus > 0, resources_per_worker=resources
    )


def _run_config(config: SftConfig) -> RunConfig:
    learner = config.learner
    variables = process_variables(learner.threads, has_gpu=learner.gpus > 0)
    # Ray chooses its classes at import; type checkers see older ones with fewer arguments.
    return RunConfig(  # type: ignore[call-arg]
        # Ray leaves a marker in this hidden folder and checks that every node sees it.
        name=".ray_train",
        **_train_storage(config),
        failure_config=FailureConfig(  # type: ignore[call-arg]
            max_failures=0, controller_failure_limit=0, max_preemption_failures=0
        ),
        worker_runtime_env={"env_vars": variables},
        logging_config=LoggingConfig(log_level="ERROR"),
    )


def _train_storage(config: SftConfig) -> dict[str, Any]:
    """Where Ray Train's own files go, which are of no use here."""
    if config.storage is None:
        return {"storage_path": str(config.run_dir)}
    files, root = fsspec.url_to_fs(config.storage)
    return {"storage_path": root, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def _failure(error: Exception) -> Exception:
    """The failure with the message of the ranks; a ValueError where the input is to blame."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    causes = {rank: getattr(failure, "_base_exc", failure) for rank, failure in failures.items()}
    for cause in causes.values():
        if isinstance(cause, ValueError):
            return cause
    words = []
    for rank, cause in sorted(causes.items()):
        where = "".join(f" ({note})" for note in getattr(cause, "__notes__", ()))
        words.append(f"rank {rank}{where}: {cause}")
    return RuntimeError("SFT failed: " + ("; ".join(words) or str(error)))


@contextmanager
def _progress(plan: SftPlan) -> Iterator[None]:
    """Show the newest line of metrics while the block runs.

    The ranks run in other processes, maybe on other nodes; their numbers come through the run
    folder.
    """
    is_over = threading.Event()
    with StageProgress("sft", total=num_steps(plan.config, len(plan.records))) as progress:
        thread = threading.Thread(
            target=_follow, args=(plan, progress, is_over), name="sft-progress", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _follow(plan: SftPlan, progress: StageProgress, is_over: threading.Event) -> None:
    metrics = RunDir(plan.config.run_dir).metrics
    gauges = StepGauges(run_tag(plan.config))
    shown_step = plan.start.step if plan.start else 0
    has_warned = is_last_look = False
    while not is_last_look:
        is_last_look = is_over.wait(LOOK_EVERY_S)
        line = last_json_line(metrics)
        if line is None or line["step"] <= shown_step:
            continue
        shown_step = int(line["step"])
        gauges.write({key: math.nan if value is None else value for key, value in line.items()})
        progress.update(shown_step, loss=line["loss"], tokens_per_s=line["throughput/tokens_per_s"])
        if not has_warned and line["records/long_prompts"] + line["records/long_answers"]:
            has_warned = True
            _log.warning(
                "of %d records, %d are left out because the prompt is longer than "
                "prompt.max_tokens and %d because the answer passes the model's positions",
                len(plan.records),
                line["records/long_prompts"],
                line["records/long_answers"],
            )
