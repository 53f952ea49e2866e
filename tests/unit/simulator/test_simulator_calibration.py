from pathlib import Path

import msgspec
import pytest

from fivenines.drill.results import DrillResult, Recovery
from fivenines.drill.simulator import calibration
from fivenines.drill.simulator.calibrate import cause_of, learned, main, read_results
from fivenines.drill.simulator.calibration import CalibrationError, quantile
from fivenines.drill.simulator.holding import compare
from tests.unit.simulator.simulated import simulated

_NEWEST = Path(__file__).parents[3] / "build" / "drills-full.json"


def test_simulator_and_real_platform_hold_together() -> None:
    for each in compare(simulated()):
        assert each.holds, f"{each.cause}, {each.what}: {each.bound}; measured {each.measured}"


@pytest.mark.skipif(not _NEWEST.exists(), reason="no drill has run here: fivenines drill run --all")
def test_what_drills_measured_last_holds_with_what_the_simulator_draws() -> None:
    newest, counts = learned(calibration.built_in(), read_results(_NEWEST), "the newest drills")
    found = [each for each in compare(simulated(), newest) if counts.get(each.cause, 0) >= 3]
    for each in found:
        assert each.holds, f"{each.cause}, {each.what}: {each.bound}; measured {each.measured}"


def test_a_worse_pause_does_not_hold() -> None:
    built_in = calibration.built_in()
    slower = {
        cause: msgspec.structs.replace(measured, pause_s=tuple(10 * each for each in measured.pause_s))
        for cause, measured in built_in.causes.items()
    }
    found = compare(simulated(), calibration.Calibration(causes=slower))
    assert not any(each.holds for each in found if each.what == "pause")


def test_drills_that_passed_are_learned_from(tmp_path: Path) -> None:
    def drill(name: str, verdict: str, *recoveries: Recovery) -> dict[str, object]:
        content = DrillResult(name=name, title="A", verdict="passed", began_at=86_400.0, recoveries=recoveries)
        return {**msgspec.to_builtins(content), "verdict": verdict}

    killed = Recovery(fault="kill", target="eu-west-1", at=1.0, longest_pause_s=0.3, detect_s=0.1)
    cut = Recovery(fault="partition", target="eu-west", at=1.0, longest_pause_s=0.9, detect_s=1.5, act_s=0.5)
    other = Recovery(fault="clock_jump", target="x", at=1.0, longest_pause_s=9.0)
    file, out = tmp_path / "drills-full.json", tmp_path / "calibration.json"
    drills = [
        drill("node-killed", "passed", killed),
        drill("node-killed", "failed", killed),
        drill("node-killed", "passed", killed),
        drill("region-cut-off-whole", "passed", cut),
        drill("node-clock-jumps", "passed", other),
    ]
    file.write_bytes(msgspec.json.encode(drills))
    assert main([str(file), "--out", str(out)]) == 0
    found = calibration.read(out)
    assert found.of("node killed").pause_s == (0.3, 0.3)
    assert found.of("region cut off from everybody").detect_s == (2.0,)
    assert found.of("node killed").day == "1970-01-02"
    assert found.of("edge killed") == calibration.built_in().of("edge killed")


def test_what_is_no_result_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.json"
    file.write_text("[1]")
    assert main([str(file), "--out", str(tmp_path / "y")]) == 1
    assert "is no file of drills' results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("drill", "fault", "target", "cause"),
    [
        ("journal-leader-killed", "kill", "eu-west-journal", "journal leader killed"),
        ("region-cut-off-regions", "partition", "eu-west", "region cut off from the others"),
        ("a-drill-of-mine", "kill", "any node", "node killed"),
        ("soak", "stop", "any node", "node hangs"),
        ("node-disk-full", "disk_full", "any node", None),
        ("all-regions-lost", "kill", "region", None),
    ],
)
def test_a_recovery_is_known_by_its_drill_or_by_fault_and_role(
    drill: str, fault: str, target: str, cause: str | None
) -> None:
    assert cause_of(Recovery(fault=fault, target=target, at=0.0), drill) == cause


def test_a_calibration_that_lacks_something_is_told_with_file_and_field(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"causes": {}}')
    with pytest.raises(CalibrationError, match=r"c\.json: causes\.node killed: is missing"):
        calibration.read(file)


def test_draws_stay_between_the_shortest_and_the_longest() -> None:
    assert [quantile((1.0, 2.0, 4.0), place) for place in (0.0, 0.5, 0.75, 1.0)] == [1.0, 2.0, 3.0, 4.0]
    assert quantile((3.0,), 0.7) == 3.0
