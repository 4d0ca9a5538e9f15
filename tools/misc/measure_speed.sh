#!/usr/bin/env bash
echo 'measure_speed.sh has moved: run .dev_scripts/measure_speed.sh' >&2
exec "$(dirname "${BASH_SOURCE[0]}")/../../.dev_scripts/measure_speed.sh" "$@"
