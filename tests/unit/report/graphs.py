"""A gold graph and a prediction that differs from it in known ways."""

from __future__ import annotations

from t2g_ray.graph import Entity, Graph, Relation

GOLD = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Acme", "company"), Entity(2, "Rome", "city")),
    (Relation("Ann", "Acme", "works for"), Relation("Acme", "Rome", "based in")),
)

PREDICTED = Graph(
    (Entity(0, " Ann ", "person"), Entity(1, "Acme", "city")),
    (Relation("Ann", "Acme", "works for"), Relation("Rome", "Acme", "based in")),
)

TEXT = "Ann works for Acme in Rome, not for Acmes."
