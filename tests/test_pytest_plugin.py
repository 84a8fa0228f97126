"""The fixture `promise`: a test for each promise, in the tests of another package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from audiotokens.pytest_plugin import promise
from audiotokens.verify import PROMISES

pytest_plugins = ["pytester"]

PLUGIN = "audiotokens.pytest_plugin"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with tests of its own, in which only this plugin is there."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=":")
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    strict = ("--strict-config", "--strict-markers", "-rs", "-p", "no:cacheprovider")
    return project.runpytest_subprocess("-p", PLUGIN, *strict, *options)


def test_three_lines_give_a_test_for_each_promise(project: pytest.Pytester) -> None:
    project.makepyfile("""
        from faulty import Honest

        def test_promise(promise):
            promise.check(Honest())
    """)
    result = run(project, "-v")
    result.assert_outcomes(passed=9, skipped=1)
    for name in PROMISES:
        result.stdout.fnmatch_lines(
            [f"*::test_promise[[]{name}[]] {'SKIPPED' if name == 'I6' else 'PASSED'}*"]
        )
    result.stdout.fnmatch_lines(["*not offered, because it has no other engine here"])


def test_a_broken_promise_fails_with_its_verdict(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import faulty, numpy, pytest

        SOUND = numpy.random.default_rng(0).uniform(-1, 1, 3000).astype(numpy.float32)

        @pytest.mark.parametrize("kind", [faulty.BatchLeak, faulty.OffByOneLength])
        def test_promise(promise, kind):
            verdict = promise.check(kind(), waveforms=[SOUND, SOUND[:900]])
            assert verdict.flips == 0 < verdict.checked
    """)
    result = run(project, "-k", "I1- or I2 or I8")
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(
        [
            "BatchLeak, I2 place in the batch and neighbours change nothing: * per million *",
            "OffByOneLength, I8 *",
        ],
        consecutive=False,
    )
    result.stdout.no_fnmatch_line("*verify(*")


def test_it_costs_nothing_where_it_is_not_used(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sys

        def test_nothing():
            assert not {"numpy", "torch", "audiotokens.verify", "soundfile"} & {*sys.modules}
    """)
    run(project).assert_outcomes(passed=1)


def test_pytest_finds_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"audiotokens": promise.__module__}
