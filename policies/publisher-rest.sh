#!/bin/sh
# A publisher's command for dkimroll (dkimroll-policy(5), PUBLISHER COMMANDS), for a provider with a REST interface: an outline to be adapted, since each provider has other paths and words.
# It takes the token from a file, not from the policy: command: [/usr/local/lib/dkimroll/publisher-rest.sh, /etc/dkimroll/provider.token], readable by the user dkimroll alone,
# or with LoadCredential=provider.token of the unit from "$CREDENTIALS_DIRECTORY/provider.token".
set -eu
token=$(cat "$1")
api=${2:-https://api.example.net/v1}
records=$api/zones/$DKIMROLL_ZONE/records

# call METHOD URL [BODY]: the answer on stdout. A provider that limits calls (429) or is in trouble (5xx) is asked again later; the token is in no argument.
call() {
  answer=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
    curl -sS --config - --max-time 40 -X "$1" -H 'Content-Type: application/json' ${3:+--data "$3"} -w '\n%{http_code}' "$2") || exit 75
  status=${answer##*
}
  case $status in
    2??) printf '%s\n' "${answer%
*}" ;;
    404) [ "$1" = DELETE ] || { echo "$1 $2: HTTP $status" >&2; exit 1; } ;;
    429 | 5??) echo "$1 $2: HTTP $status" >&2; exit 75 ;;
    *) echo "$1 $2: HTTP $status: ${answer%
*}" >&2; exit 1 ;;
  esac
}

# look_for CONTENT: sets ids to the provider's numbers of the TXT records at the name with just that content. Ours alone is ever touched.
look_for() {
  listed=$(call GET "$records?type=TXT&name=$DKIMROLL_RELATIVE_NAME") || exit $?
  ids=$(printf '%s' "$listed" | jq -r --arg content "$1" '.records[] | select(.content == $content) | .id') || exit 1
}

add() {
  look_for "$DKIMROLL_RECORD"
  [ -z "$ids" ] || return 0
  body=$(jq -n --arg name "$DKIMROLL_RELATIVE_NAME" --argjson ttl "$DKIMROLL_TTL" --arg content "$DKIMROLL_RECORD" \
    '{type: "TXT", name: $name, ttl: $ttl, content: $content}')
  call POST "$records" "$body" >/dev/null
}

# remove CONTENT
remove() {
  look_for "$1"
  for id in $ids; do call DELETE "$records/$id" >/dev/null; done
}

case $DKIMROLL_ACTION in
  add) add ;;
  # The old one goes first: a name never carries two records.
  replace) remove "$DKIMROLL_OLD_RECORD"; add ;;
  delete) remove "$DKIMROLL_RECORD"; [ -z "${DKIMROLL_OLD_RECORD:-}" ] || remove "$DKIMROLL_OLD_RECORD" ;;
  *) echo "action $DKIMROLL_ACTION is not known" >&2; exit 64 ;;
esac
