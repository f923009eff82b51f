#!/bin/sh
# Do something for each command: commands.sh [RECORDING]. Put your own programs in place of echo.
set -eu

if [ $# -gt 0 ]; then kws-edge detect "$1" --json; else kws-edge listen --json; fi |
    jq --unbuffered -r '[.keyword, .score] | @tsv' |
    while read -r keyword score; do
        case $keyword in
            up) echo "louder ($score)" ;;
            down) echo "quieter ($score)" ;;
            stop) echo "silence ($score)" ;;
        esac
    done
