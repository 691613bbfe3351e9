#!/bin/sh
# Says where a try-out keeps its data: ./data, or, for root in a place that PostgreSQL's unprivileged user cannot
# reach, a directory of the system.
here=$PWD
if [ "$(id -u)" = 0 ]; then
    dir=$here
    while [ "$dir" != / ]; do
        case $(ls -ld "$dir" | cut -c10) in
        x | t) ;;
        *) echo /var/lib/counterfoil; exit ;;
        esac
        dir=$(dirname "$dir")
    done
fi
echo "$here/data"
