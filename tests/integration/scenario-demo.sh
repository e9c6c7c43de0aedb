#!/usr/bin/env bash
# The demo is a test: the whole life of a key, RSA-2048, BIND primary, Knot secondary, every step proved by python3-dkim.
exec "$(dirname "$0")/demo.sh"
