#!/bin/sh
# Waits until ringwatch says stop, or the series is over by itself. Usage: wait.sh [URL [SERIES_BEFORE]]
# SERIES_BEFORE is the "unique_id" of /api/latest before the detector was armed: without it a script that comes late
# could be told of the series before. Exit code: 0 stop, 1 over, 2 ringwatch does not answer.
url=${1:-http://127.0.0.1:8080}
while answer=$(curl --silent --show-error --fail --get "$url/api/wait?timeout_s=60" ${2:+--data-urlencode "after=$2"}); do
    case $answer in
        '{"outcome":"stop"'*) exit 0 ;;
        '{"outcome":"over"'*) exit 1 ;;
    esac
done
exit 2
