"""What a release says of itself agrees: version, changelog, citation, metadata, and the workflows that test it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import partialsym as ps

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / ".github" / "workflows").glob("*.yml")}
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
SECTION = re.compile(r"\[(?:Unreleased|(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d))\]?")


def number(version):
    return [int(part) for part in version.split(".")]


def check_changelog(text, version):
    """An `[Unreleased]` section, dated ones of falling versions, or both; the last release is `version`."""
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    found = [SECTION.fullmatch(heading) for heading in headings]
    assert all(found), headings
    assert found, "no section"
    assert all(match[1] for match in found[1:]), "only the first section is unreleased"
    released = [(number(match[1]), match[2]) for match in found if match[1]]
    assert released == sorted(released, reverse=True), "the newest stands first"
    assert len({tuple(v) for v, _ in released}) == len(released), "a version twice"
    if released:
        assert released[0][0] == number(version), f"the last release is not {version}"
    else:
        assert f"become {version}" in text


def test_the_changelog_is_of_this_version():
    check_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), ps.__version__)


@pytest.mark.parametrize(
    "text",
    [
        "## [Unreleased]\n\nTo become 0.2.0.\n",
        "## [0.2.0] - 2027-01-02\n",
        "## [Unreleased]\n\n## [0.2.0] - 2027-01-02\n\n## [0.1.0] - 2026-12-01\n",
        "## [0.2.0] - 2027-01-02\n\n### Added\n\n## [0.1.10] - 2026-12-02\n\n## [0.1.9] - 2026-12-01\n",
    ],
)
def test_a_changelog_before_and_after_a_release_is_accepted(text):
    check_changelog(text, "0.2.0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "## [Unreleased]\n",
        "## [Unreleased]\n\nTo become 0.3.0.\n",
        "## 0.2.0\n",
        "## [0.2.0]\n",
        "## [0.2.0] - soon\n",
        "## [0.1.0] - 2026-12-01\n",
        "## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n",
        "## [0.2.0] - 2027-01-02\n\n## [Unreleased]\n",
        "## [0.2.0] - 2027-01-02\n\n## [0.3.0] - 2027-01-01\n",
        "## [0.2.0] - 2027-01-02\n\n## [0.2.0] - 2027-01-02\n",
    ],
)
def test_a_changelog_of_another_version_or_form_is_refused(text):
    with pytest.raises(AssertionError):
        check_changelog(text, "0.2.0")


def test_the_citation_is_valid_and_agrees_with_the_metadata():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cff.keys()  # what its schema requires
    assert (cff["cff-version"], cff["type"], cff["version"]) == ("1.2.0", "software", ps.__version__)
    names = ("title", "abstract", "license", "authors", "keywords")
    assert [cff[name] for name in names] == [
        PROJECT[name] for name in ("name", "description", "license", "authors", "keywords")
    ]
    (paper,) = cff["references"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert [author["family-names"] for author in paper["authors"]] == ["Romero", "Lohit"]
    assert PROJECT["urls"]["Paper"] == paper["url"]


def test_the_oldest_and_the_newest_supported_are_tested():
    """Pythons by the classifiers, torch by the requirement and the constraint."""
    rows = yaml.safe_load(WORKFLOWS["tests"])["jobs"]["full"]["strategy"]["matrix"]["include"]
    pythons = [re.fullmatch(r".* :: (3\.\d+)", c) for c in PROJECT["classifiers"]]
    pythons = sorted((match[1] for match in pythons if match), key=number)
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    (least,) = (re.fullmatch(r"torch>=([\d.]+)", r)[1] for r in PROJECT["dependencies"] if r.startswith("torch"))
    newest = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert rows == [{"python": pythons[0], "torch": f"{least}.0"}, {"python": pythons[-1], "torch": newest}]


def test_the_full_job_runs_what_ci_runs():
    steps = yaml.safe_load(WORKFLOWS["tests"])["jobs"]["full"]["steps"]
    recipe = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert [s["run"] for s in steps if s.get("run", "").startswith("make ")] == re.findall("^make .*$", recipe, re.M)


def test_only_a_tag_publishes_what_was_tested():
    flow = yaml.safe_load(WORKFLOWS["release"])
    assert flow[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert flow["jobs"]["publish"]["needs"] == ["tests", "build"]
    writes = {name: job.get("permissions", {}) for name, job in flow["jobs"].items()}
    assert writes == {"tests": {}, "build": {}, "publish": {"id-token": "write"}}


def test_workflows_pin_actions_and_take_torch_for_the_cpu():
    assert WORKFLOWS.keys() == {"docs", "release", "tests"}
    for name, text in WORKFLOWS.items():
        flow = yaml.safe_load(text)
        assert flow["permissions"] == {"contents": "read"}, name
        steps = [step for job in flow["jobs"].values() for step in job.get("steps", [])]
        used = [step["uses"] for step in steps if "uses" in step]
        assert used
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", action) for action in used), name
        installs = [
            line
            for step in steps
            for line in step.get("run", "").splitlines()
            if re.search(r" install .* torch$", line)
        ]
        assert all(re.search(r"--index-url .*(download\.pytorch\.org/whl/cpu|TORCH_INDEX)", i) for i in installs)
        assert installs, name


def test_issue_forms_have_what_github_requires():
    forms = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in FORMS.glob("*.yml")}
    assert forms.pop("config") == {"blank_issues_enabled": True}
    assert forms.keys() == {"bug", "feature"}
    for form in forms.values():
        assert {"name", "description", "body"} <= form.keys()
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 2
        for field in form["body"]:
            kind, about = field["type"], field["attributes"]
            assert kind in ("markdown", "textarea", "checkboxes")
            assert about["value"] if kind == "markdown" else about["label"]
        assert any(field.get("validations", {}).get("required") for field in form["body"])
