"""Made-up sources of every layout: each record is right, rejected, or counted as dropped.

pytest -m long tests/unit/data/importers/fuzz      20,000 sources
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from t2g_ray.data.importers.finish import ImportOptions
from t2g_ray.data.importers.registry import LAYOUTS
from t2g_ray.data.importers.run import import_source
from t2g_ray.data.importers.source import Source
from tests.unit.data.importers.fuzz import column_layouts, text_layouts, token_layouts
from tests.unit.data.importers.fuzz.truth import Case, check

CASES: dict[str, st.SearchStrategy[Case]] = {
    "spert": token_layouts.json_case("spert"),
    "span_json": token_layouts.json_case("span_json"),
    "tagged_json": token_layouts.json_case("tagged_json"),
    "dygie": token_layouts.dygie_case(),
    "docred": token_layouts.docred_case(),
    "scier": token_layouts.scier_case(),
    "conll_columns": column_layouts.columns_case(),
    "conll_relations": column_layouts.relations_case(),
    "prompt_solution": text_layouts.prompt_case(),
    "records": text_layouts.records_case(),
    "brat": text_layouts.brat_case(),
    "ade_rel": text_layouts.ade_case(),
    "webnlg": text_layouts.webnlg_case(),
    "text2kgbench": text_layouts.text2kgbench_case(),
}
NUM_SHORT, NUM_LONG = 10, 1430
DROPPED = st.sampled_from([(), (), ("L",), ("P",), ("r",), ("drug",)])
SUB_SCHEMA = st.one_of(st.none(), st.none(), st.integers(0, 99))


def run(layout: str, num_cases: int) -> None:
    """Import so many sources. They go on from the same beginning each time."""

    @settings(
        max_examples=num_cases,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=[*HealthCheck],
    )
    @given(CASES[layout], DROPPED, SUB_SCHEMA)
    def each(case: Case, dropped: tuple[str, ...], seed: int | None) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in case.files.items():
                (Path(folder) / name).write_bytes(content.encode())
            is_one = len(case.files) == 1
            source = Source.of(str(Path(folder) / next(iter(case.files))) if is_one else folder)
            options = ImportOptions(types_map=dict.fromkeys(dropped, ""), sub_schema_seed=seed)
            columns = tuple(case.columns.split(",")) if case.columns else None
            try:
                result = import_source(source, options, layout=layout, columns=columns)
            except ValueError as error:
                assert case.may_ask and "--columns" in str(error), str(error)
                return
            check(case, result, frozenset(dropped), seed is not None)

    each()


def test_every_layout_has_a_generator() -> None:
    assert set(CASES) == set(LAYOUTS)


@pytest.mark.untraced
@pytest.mark.parametrize("layout", CASES)
def test_a_few_sources_are_right_rejected_or_counted(layout: str) -> None:
    run(layout, NUM_SHORT)


@pytest.mark.long
@pytest.mark.untraced
@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", CASES)
def test_many_sources_are_right_rejected_or_counted(layout: str) -> None:
    run(layout, NUM_LONG)
