"""Which variables travel, which stay, and what is known as a secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from t2g_ray.run.job.variables import (
    FAMILIES,
    OF_ONE_PROCESS,
    OF_THIS_MACHINE,
    VariableError,
    check_command,
    choose,
    secret_values,
)

KEPT = {
    "T2G_TOKENIZER": "a",
    "HF_HUB_OFFLINE": "1",
    "HF_TOKEN_PATH": "/shared/token",
    "NCCL_SOCKET_IFNAME": "eth0",
    "VLLM_LOGGING_LEVEL": "INFO",
    "TORCH_NCCL_BLOCKING_WAIT": "1",
    "TORCHINDUCTOR_CACHE_DIR": "/local/cache",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "CUDA_LAUNCH_BLOCKING": "1",
    "FI_PROVIDER": "efa",
    "TRITON_CACHE_DIR": "/local/triton",
    "WANDB_PROJECT": "graphs",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "TOKENIZERS_PARALLELISM": "false",
}


def test_the_page_names_every_family() -> None:
    page = (Path(__file__).parents[4] / "docs" / "cluster.md").read_text()
    assert f"`{' '.join(FAMILIES)}`" in page


def test_what_matters_to_a_run_travels_and_nothing_else() -> None:
    chosen = choose({**KEPT, "AWS_SECRET": "s", "PATH": "/", "OMP_WAIT_POLICY": "passive"})
    assert chosen.travelling == KEPT
    assert (chosen.withheld, chosen.local) == ((), ())


@pytest.mark.parametrize("name", sorted(OF_ONE_PROCESS))
def test_what_is_settled_for_each_process_never_travels(name: str) -> None:
    environment = {name: "0"}
    assert choose(environment).travelling == {}
    for named in (name, f"{name}=1"):
        with pytest.raises(VariableError, match=f"{name} must not travel with a job: "):
            choose(environment, [named])


@pytest.mark.parametrize("name", OF_THIS_MACHINE)
def test_what_another_machine_does_not_have_travels_only_when_named(name: str) -> None:
    chosen = choose({name: "/here"})
    assert (chosen.travelling, chosen.local) == ({}, (name,))
    chosen = choose({name: "/here"}, [f"{name}=/there"])
    assert (chosen.travelling, chosen.local) == ({name: "/there"}, ())
    assert name.startswith(FAMILIES)


def test_named_variables_travel_with_the_value_here_or_with_their_own() -> None:
    environment = {"RAY_DEDUP_LOGS": "0", "OMP_WAIT_POLICY": "passive", "HF_HOME": "/here"}
    chosen = choose(environment, ["RAY_DEDUP_LOGS", "HF_HOME=/there", "EMPTY="])
    assert chosen.travelling == {"RAY_DEDUP_LOGS": "0", "HF_HOME": "/there", "EMPTY": ""}


@pytest.mark.parametrize("named", ["NOT_SET", "with space=1", "=1", "1A=2"])
def test_a_named_variable_that_cannot_be_had_is_refused(named: str) -> None:
    with pytest.raises(VariableError, match="--env"):
        choose({}, [named])


SECRETS = [
    ("HF_TOKEN", "hf_x"),
    ("HF_HUB_TOKEN", "x"),
    ("WANDB_API_KEY", "x"),
    ("WANDB_APIKEY", "x"),
    ("MLFLOW_TRACKING_PASSWORD", "x"),
    ("VLLM_API_KEY", "x"),
    ("T2G_SECRET", "x"),
    ("T2G_DB_PASSWORD", "x"),
    ("HF_ENDPOINT", "https://me:secret@hub.example"),
    ("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db"),
    ("T2G_NOTE", "hf_" + "a" * 34),
    ("T2G_KEYS", "-----BEGIN RSA PRIVATE KEY-----"),
    ("T2G_ID", "AKIA" + "A" * 16),
    ("T2G_AUTHORIZATION", "Bearer x"),
    ("TRACKIO_SERVER_URL", "https://trackio.example?write_token=0123"),
    ("T2G_DATA", "https://bucket.example/train.jsonl?a=1&X-Amz-Signature=0123"),
]


@pytest.mark.parametrize(("name", "value"), SECRETS)
def test_secrets_stay_here_and_are_refused_when_named(name: str, value: str) -> None:
    chosen = choose({**KEPT, name: value})
    assert chosen.travelling == {k: v for k, v in KEPT.items() if k != name}
    assert chosen.withheld == (name,)
    for named in (name, f"{name}={value}"):
        with pytest.raises(VariableError, match=f"found {name}.*--secret {name}=") as refusal:
            choose({name: value}, [named])
        assert len(value) < 5 or value not in str(refusal.value)


def test_a_secret_stays_here_under_another_name_too() -> None:
    environment = {"MY_PASSWORD": "correct-horse-battery", "T2G_NOTE": "use correct-horse-battery"}
    assert choose(environment).withheld == ("T2G_NOTE",)
    with pytest.raises(VariableError, match="found NOTE"):
        choose(environment, ["NOTE=correct-horse-battery"])


def test_only_what_can_be_told_from_other_text_is_searched_as_a_secret() -> None:
    values = secret_values(
        {
            "AWS_SECRET_ACCESS_KEY": "0123456789ab",
            "SHORT_KEY": "01234567",
            "PWD": "/home/me/a-long-path",
            "SSH_AUTH_SOCK": "/",
            "HF_TOKEN_PATH": "/home/me/.token-of-mine",
            "HOME": "/home/me/somewhere",
        }
    )
    assert values == {"AWS_SECRET_ACCESS_KEY": "0123456789ab"}


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["env", "KEY=0123456789ab", "t2g"], "the value of AWS_SECRET_ACCESS_KEY"),
        (["curl", "https://me:pass@host"], "what looks like a token or password"),
        (["t2g", "data.train=https://host/a?sig=0123"], "what looks like a token or password"),
    ],
)
def test_a_command_with_a_secret_is_refused(command: list[str], what: str) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "0123456789ab"}
    check_command(
        ["t2g", "grpo", "run_dir=s3://bucket/run", "model=https://host:80/a"], environment
    )
    with pytest.raises(VariableError, match=re.escape(f"found {what}")) as refusal:
        check_command(command, environment)
    assert "0123456789ab" not in str(refusal.value)
