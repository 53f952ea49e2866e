import pytest

from bench.names import Answered, judged, read_dnsperf, read_latencies_ms
from bench.processes import BenchError

PRINTED = """\
> NOERROR api.bank.test A 0.000250
> NOERROR API.Bank.Test AAAA 0.001000
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         502187
  Queries completed:    502187 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 502187 (100.00%)
  Average packet size:  request 32, response 67
  Run time (s):         5.000694
  Queries per second:   100423.461224
"""


def test_what_dnsperf_prints_is_read() -> None:
    assert read_dnsperf(PRINTED) == Answered(100423.461224, 502_187, 0, {"NOERROR": 502_187})
    assert read_latencies_ms(PRINTED) == [0.25, 1.0]


def test_what_dnsperf_does_not_say_is_an_error() -> None:
    with pytest.raises(BenchError, match="something else"):
        read_dnsperf("Statistics:\n")


@pytest.mark.parametrize(
    "answered", [Answered(1.0, 10, 1, {"NOERROR": 9}), Answered(1.0, 10, 0, {"NOERROR": 9, "SERVFAIL": 1})]
)
def test_a_run_counts_only_if_every_question_got_its_answer(answered: Answered) -> None:
    with pytest.raises(BenchError, match="of 10 questions"):
        judged(answered, "NOERROR")
