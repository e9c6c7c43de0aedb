#!/bin/sh
# The reload of a publisher of type zonefile (dkimroll-policy(5), ZONE FILES) for BIND, which tells secondary servers of a change only if the serial rises. The zone's file is made from
# DIRECTORY/ZONE.in, where @SERIAL@ stands in the place of the serial:
#
#   publishers:
#     files: {type: zonefile, file: /var/lib/bind/dkim/%z.dkim, reload: {command: [/usr/local/lib/dkimroll/reload-zone.sh, /etc/bind/zones, /usr/sbin/rndc]}}
#
# What follows DIRECTORY is rndc(8) with its options. dkimroll's user must be able to write in DIRECTORY, and to read the key of rndc (group bind).
set -eu
umask 022
directory=$1
shift
zone=$directory/$DKIMROLL_ZONE.zone

# Seconds since 1970 rise by themselves; two changes in one second still need two serials. The name server's own answer would be no better: it may be late.
serial=$(date +%s)
last=$(sed -n 's/^; serial \([0-9]*\)$/\1/p' "$zone" 2>/dev/null || :)
[ "$serial" -gt "${last:-0}" ] || serial=$((last + 1))

# As a whole, since the name server may read it at any moment.
{ echo "; serial $serial"; sed "s/@SERIAL@/$serial/" "$directory/$DKIMROLL_ZONE.in"; } >"$zone.new"
mv "$zone.new" "$zone"
exec "$@" reload "$DKIMROLL_ZONE" >/dev/null
