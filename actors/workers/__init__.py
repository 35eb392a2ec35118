"""One Ray actor each: rollout, reward, learner rank."""

# First of all that an actor loads: its clock tells how long the rest takes.
from t2g_ray.run.timing import startup as startup
