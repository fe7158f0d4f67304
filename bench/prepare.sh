#!/bin/sh
# Builds the load generator and writes certs/ and conf/ for every peer.
set -eu
cd "$(dirname "$0")"
(cd tools && cargo build --release --quiet)
[ -f certs/ca.crt ] || ./certs.sh
mkdir -p conf
python3 gen.py
