"""Text in, graph out: what is computed. Nothing in this package places work on a cluster.

For use as a library, import from the packages; this module itself imports nothing:

    from t2g_ray.graph import Graph                            # Graph.from_dict, Graph.to_json
    from t2g_ray.graph.parsing import parse_completion         # completion -> graph, or why not
    from t2g_ray.config import GrpoConfig, load_config         # YAML and overrides -> settings

docs/glossary.md names the file of every other notion.
"""

__version__ = "0.1.0"
