"""Text <-> graph: the data structure, parsing, counting and matching. Needs nothing else."""

from t2g_ray.graph.graph import Entity, Graph, GraphError, Relation

__all__ = ["Entity", "Graph", "GraphError", "Relation"]
