"""What a fault takes is checked before anything is done, and control groups are found in both of their versions."""

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.faults import FAULTS, BadFaultError, FaultImpossibleError, FaultKind, Parameter, in_force
from fivenines.drill.faults.processes import ourselves
from fivenines.drill.faults.starving import Groups, find_groups
from fivenines.drill.running import RunningPlatform

EVERY_KIND = [pytest.param(kind, id=kind.name) for kind in FAULTS.values()]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_default_is_one_that_may_be(kind: FaultKind) -> None:
    assert kind.read({}) == {name: parameter.default for name, parameter in kind.parameters.items()}
    assert kind.read(kind.read({})) == kind.read({})
    assert re.fullmatch("[a-z_]+", kind.name)
    assert kind.summary
    assert kind.undone


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_documentation_knows_every_fault_and_parameter(kind: FaultKind) -> None:
    text = (Path(__file__).parents[4] / "docs" / "faults.md").read_text()
    row = next((line for line in text.splitlines() if line.startswith(f"| `{kind.name}` |")), "")
    assert row
    assert all(f"`{name}`" in row for name in kind.parameters)


@given(name=st.text(min_size=1, max_size=10))
def test_an_unknown_parameter_is_named(name: str) -> None:
    with pytest.raises(BadFaultError, match=re.escape(f"kill has no parameter {name!r}; it has: none")):
        FAULTS["kill"].read({name: 1})


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        ({"share": "much"}, "slow: share: a float is wanted, not 'much'"),
        ({"share": 2}, "slow: share: 2.0 is more than 0.95"),
        ({"share": 0.0}, "slow: share: 0.0 is less than 0.01"),
        ({"share": True}, "slow: share: a float is wanted, not True"),
        ({"by": "magic"}, "slow: by: 'magic' is none of best, group, duty"),
    ],
)
def test_a_wrong_value_is_named(given_: dict[str, Any], told: str) -> None:
    with pytest.raises(BadFaultError, match=re.escape(told)):
        FAULTS["slow"].read(given_)


@given(low=st.integers(-100, 100), span=st.integers(0, 100), value=st.integers(-300, 300))
def test_a_value_is_taken_if_it_lies_between(low: int, span: int, value: int) -> None:
    parameter = Parameter(default=low, low=low, high=low + span, meaning="")
    if low <= value <= low + span:
        assert parameter.read("n", value) == value
    else:
        with pytest.raises(BadFaultError):
            parameter.read("n", value)


def begin(name: str, **parameters: Any) -> None:
    async def run() -> None:
        platform = RunningPlatform(Path("/nowhere"))
        async with in_force(name, platform, chance=random.Random(1), **parameters):
            pass

    asyncio.run(run())


def test_what_makes_no_sense_is_refused_before_anything_is_done() -> None:
    with pytest.raises(BadFaultError, match="no fault is called 'earthquake'; there are: kill, stop"):
        begin("earthquake")
    with pytest.raises(BadFaultError, match="kill: limit_s: more than 0 seconds are wanted, not 0"):
        begin("kill", limit_s=0)
    assert issubclass(BadFaultError, Exception)
    assert FaultImpossibleError("kill", "why").reason == "why"


def test_groups_of_the_first_version_are_found_and_made(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "cpu.cfs_quota_us").touch()
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\ncgroup {tmp_path} cgroup rw,relatime,cpu,cpuacct 0 0\n")
    groups = find_groups(mounts)
    assert groups == Groups(tmp_path, 1)
    groups.make(tmp_path / "slow", 0.25)
    assert (tmp_path / "slow" / "cpu.cfs_quota_us").read_text() == "25000"
    assert (tmp_path / "slow" / "cpu.cfs_period_us").read_text() == "100000"


def test_groups_of_the_second_version_are_found_and_made(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n")
    groups = find_groups(mounts)
    assert groups == Groups(tmp_path, 2)
    groups.make(tmp_path / "slow", 0.001)
    assert (tmp_path / "slow" / "cpu.max").read_text() == "1000 100000"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    assert groups.home(ourselves()).is_relative_to(tmp_path)


def test_groups_without_the_processor_are_none(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "cgroup.controllers").write_text("io memory\n")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    assert find_groups(mounts) is None
    assert find_groups(tmp_path / "missing") is None
