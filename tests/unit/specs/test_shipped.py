import pytest

from rlaif.errors import ConfigError
from rlaif.specs import shipped
from rlaif.specs.shipped import is_path, shipped_dir, shipped_files


def test_a_checkout_has_its_files_at_the_top():
    assert "helpfulness" in shipped_files("rubrics")
    assert "harmlessness" in shipped_files("constitutions")
    assert (shipped_dir("quickstart") / "prompts.jsonl").is_file()


def test_a_wheel_has_them_inside_the_package(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "rlaif"
    (package / "shipped" / "rubrics").mkdir(parents=True)
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped_dir("rubrics") == package / "shipped" / "rubrics"
    with pytest.raises(ConfigError, match="no shipped constitutions; install it again"):
        shipped_dir("constitutions")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", False),
        ("a-b", False),
        ("a.yaml", True),
        ("a.yml", True),
        ("./a", True),
        ("a\\b", True),
    ],
)
def test_what_means_a_path(text, expected):
    assert is_path(text) is expected
