#!/usr/bin/env bash
# Runs a Python test under Bazel: python_test.sh FILE, both from the root.
exec python3 tests/python_test_main.py "$1"
