"""Who keeps the journal in a file needs neither etcd nor what speaks to it."""

import subprocess
import sys


def test_a_server_with_a_file_journal_imports_nothing_of_etcd() -> None:
    program = (
        "import sys, fivenines.cli, fivenines.cli.serve, fivenines.node.server, fivenines.journal\n"
        "print([name for name in ('grpc', 'google.protobuf', 'fivenines.journal.etcd') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_forks_are_safe_when_grpc_is_imported_by_the_journal() -> None:
    program = "import os, fivenines.journal.etcd, sys; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "0"
