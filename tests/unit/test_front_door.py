import subprocess
import sys

import pytest

import fivenines
import fivenines.client


@pytest.mark.parametrize("name", ["AsyncLedger", "Ledger"])
def test_the_front_door_leads_to_the_clients(name: str) -> None:
    assert getattr(fivenines, name) is getattr(fivenines.client, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Ledgre"):
        getattr(fivenines, "Ledgre")  # noqa: B009 - a type checker would refuse the plain form


def test_asking_for_the_version_does_not_import_an_http_client() -> None:
    program = "import sys, fivenines; print(fivenines.__version__, 'httpx' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [fivenines.__version__, "False"]
