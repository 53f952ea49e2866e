from fivenines.control.probing import Window


def test_probes_count_in_the_order_in_which_they_began() -> None:
    window = Window()
    window.add(1, 0.0, 0.01, "")
    window.add(3, 1.0, 0.01, "")
    window.add(2, 0.5, None, "no answer within 1 s")
    found = window.probes(2.0)
    assert found.recent == (True, False, True), "the one that hung began before the last one that was answered"
    assert found.failing_s == 0.0
    assert found.reason == ""


def test_a_window_tells_since_when_probes_fail_and_how_long_answers_take() -> None:
    window = Window()
    for number in range(20):
        window.add(number, float(number), 0.010 + number / 1_000, "")
    window.add(20, 20.0, None, "refused")
    window.add(21, 21.0, None, "refused, too")
    found = window.probes(22.5)
    assert len(found.recent) == 16
    assert found.recent[-3:] == (True, False, False)
    assert found.failing_s == 2.5
    assert found.reason == "refused, too"
    assert found.latency_ms is not None
    assert 20.0 < found.latency_ms < 30.0


def test_only_what_is_worth_a_look_says_so() -> None:
    window = Window()
    assert window.add(1, 0.0, 0.01, ""), "the first is news"
    assert not window.add(2, 0.5, 0.01, "")
    assert window.add(3, 1.0, None, "lost")
    assert window.add(4, 1.5, None, "lost"), "each failure is: two in a row decide"
    assert window.add(5, 2.0, 0.01, ""), "so is the first answer after"
