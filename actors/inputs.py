"""GRPO configuration -> all that a run reads, settled before an actor is started."""

from __future__ import annotations

from actors.stages.evaluation import check_evaluated_before
from t2g_ray.config import GrpoConfig
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.source import lasting_name
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.load import PromptStream, load_heldout
from t2g_ray.prompts.meaning import meaning_of
from t2g_ray.run.checkpoint import FoundCheckpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.resume.start import check_meaning, check_steps


class GrpoInputs:
    """What a run reads, all of it, before anything is started."""

    def __init__(self, config: GrpoConfig, run: RunDir) -> None:
        self._config, self._run = config, run
        self.model = resolve_model(config, run)
        self.tokenizer = load_tokenizer(self.model)
        self.prompts = PromptStream(self.tokenizer, config)
        self.heldout = load_heldout(config)
        self.meaning = meaning_of(
            config,
            tokenizer=self.tokenizer,
            model=lasting_name(config.model, self.model),
            train=self.prompts.records,
            heldout=self.heldout,
        )

    def check(self, start: FoundCheckpoint) -> list[str]:
        """What to tell about going on from `start`. Raises ResumeError where that cannot be."""
        told = check_meaning(self._run, start, self.meaning)
        check_steps(start, self._config.steps)
        check_evaluated_before(self._run, self.heldout)
        return told
