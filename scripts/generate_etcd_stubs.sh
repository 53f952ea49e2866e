#!/usr/bin/env bash
# Makes src/fivenines/journal/etcd/rpc_pb2.py and .pyi from rpc.proto, in a Python environment of its own: the compiler is
# needed only when rpc.proto changes, so nobody installs it with the package. Its version decides the oldest protobuf
# that can load what it makes (the lower bound in pyproject.toml), so it stays one major version behind the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check grpcio-tools==1.76.0
"$tools/bin/python" -m grpc_tools.protoc --proto_path=src \
    --python_out=src --pyi_out=src src/fivenines/journal/etcd/rpc.proto
