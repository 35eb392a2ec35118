from pathlib import Path

from t2g_ray.cli.config_reference import reference

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_the_configuration_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == reference()


def test_every_key_says_what_it_means() -> None:
    rows = [row for row in reference().splitlines() if row.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if row.endswith("|  |")]
