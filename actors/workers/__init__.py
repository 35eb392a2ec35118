"""One Ray actor each: rollout, reward, learner rank."""
