#!/usr/bin/env bash
# Writes descriptors.binpb, what `sortal.serve.grpc` makes its messages from, out of the .proto files beside it. Needed after
# one of them has changed. grpcio-tools, which holds the compiler, goes into an environment of its own and is needed nowhere else.
set -euo pipefail
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check grpcio-tools==1.85.1
cd "$(dirname "$0")/../src/sortal/serve/grpc/protos"
"$environment/bin/python" -m grpc_tools.protoc -I . --descriptor_set_out=descriptors.binpb classifier.proto open_inference.proto
