"""Requests -> answers, by a vLLM engine in this process.

Invariant: every request draws from a generator of its own and a batch is answered in its order, so
that an answer depends on its request alone, to rounding; on one kind of CPU the same batch gets
the same answers bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherRequest
from t2g_ray.data.generate.teachers.teacher import (
    REFUSED,
    TOO_LONG,
    Keep,
    TeacherOutcome,
    keep_nothing,
)
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.control import ControlInText
from t2g_ray.prompts.messages import PromptTooLong, encode_messages
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.greedy import local_spec
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.types import Completion, Prompt


class EngineTeacher:
    """Owns the engine."""

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._tokenizer = load_tokenizer(config.named_model)
        self._max_new_tokens = config.answer_tokens
        self._engine = GenerationEngine(engine_spec(config))

    def answer(
        self, requests: Sequence[TeacherRequest], keep: Keep = keep_nothing
    ) -> list[TeacherOutcome]:
        """Raises what the engine raises, which then has no open request left.

        Gives nothing to `keep`: the rest of a batch would get other last bits than the whole.
        """
        outcomes: dict[int, TeacherOutcome] = {}
        try:
            for index, request in enumerate(requests):
                if (failure := self._add(index, request)) is not None:
                    outcomes[index] = failure
            while self._engine.is_busy:
                for group in self._engine.step():
                    index = group.prompt.index
                    outcomes[index] = self._outcome(requests[index], group.completions[0])
        finally:
            if self._engine.is_busy:
                self._engine.abort(self._engine.open_prompts)
        return [outcomes[index] for index in range(len(requests))]

    def _add(self, index: int, request: TeacherRequest) -> TeacherOutcome | None:
        try:
            token_ids = encode_messages(
                self._tokenizer,
                list(request.messages),
                thinking=False,
                max_tokens=self._engine.spec.max_model_len - self._max_new_tokens,
            )
        except PromptTooLong as error:
            return TeacherOutcome.failure(request, TOO_LONG, str(error))
        except ControlInText as error:
            return TeacherOutcome.failure(request, REFUSED, str(error))
        sampling = Sampling(
            group_size=1,
            temperature=self._config.temperature,
            top_p=self._config.top_p,
            seed=request.seed,
            max_new_tokens=self._max_new_tokens,
            grammar=request.grammar,
        )
        self._engine.add(Prompt(index=index, token_ids=token_ids, purpose="eval"), sampling)
        return None

    def _outcome(self, request: TeacherRequest, completion: Completion) -> TeacherOutcome:
        return TeacherOutcome(
            number=request.number,
            sample=request.sample,
            text=self._tokenizer.decode(completion.token_ids.tolist(), skip_special_tokens=True),
            is_cut=completion.finish_reason == "length",
        )


def check_teacher_model(config: TeacherConfig) -> None:
    """Raises ValueError for a model that cannot be a teacher, before an engine is started."""
    if load_tokenizer(config.named_model).chat_template is None:
        raise ValueError(
            f"a teacher must have a chat template, found none in {config.named_model}; take an "
            "instruction model"
        )
    engine_spec(config)


def engine_spec(config: TeacherConfig) -> EngineSpec:
    """The engine of one actor. Raises ValueError when answers exceed the model's positions."""
    spec = local_spec(
        config.named_model,
        max_prompt_tokens=config.max_prompt_tokens,
        max_new_tokens=config.answer_tokens,
    )
    return replace(
        spec,
        threads=config.threads,
        gpus=config.gpus,
        tensor_parallel=max(1, int(config.gpus)),
        more={**spec.more, **config.engine},
    )
