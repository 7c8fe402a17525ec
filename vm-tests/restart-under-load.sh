# Submits COUNT jobs named NAME by 20 clients, at no more than 15 a second each, every request in a connection of its own.
#
#   load.sh NAME COUNT [OPTION…]
#
# Each OPTION is a line of curl's configuration, which counts for every request.
# For each request a line goes into a file of /tmp/NAME: HTTP status, exit code of curl, seconds.
set -euo pipefail
name=$1 count=$2 clients=20
shift 2
directory=/tmp/$name
printf -v moment %012x "$(date +%s%3N)"
token=$(cat "$CONVEYOR_TOKEN_FILE")
job='"submitter":"load","work":{"kind":"publish","repository":"test.example.org","lease_path":"/load","payload":{"type":"empty"}}'
job=${job//\"/\\\"}
umask 077
mkdir "$directory"
for ((client = 0; client < clients; client++)); do
  for ((n = client; n < count; n += clients)); do
    printf -v id '%s-%s-7000-8000-%012x' "${moment:0:8}" "${moment:8:4}" "$n"
    # Standard error, since it is not buffered.
    printf '%s\n' \
      'url = "http://localhost:8080/api/v1/jobs"' \
      "header = \"Authorization: Bearer $token\"" \
      'header = "Content-Type: application/json"' \
      'header = "Connection: close"' \
      "data = \"{\\\"id\\\":\\\"$id\\\",\\\"name\\\":\\\"$name\\\",$job}\"" \
      "output = \"$directory/$client.reply\"" \
      'write-out = "%{stderr}%{http_code} %{exitcode} %{time_total}\n"' \
      "$@" next
  done | sed '$d' >"$directory/$client.requests"
done
touch "$directory/ready"
for ((client = 0; client < clients; client++)); do
  # What fails is in the lines; the other requests are sent all the same.
  curl --silent --rate 15/s --config "$directory/$client.requests" 2>"$directory/$client.results" || true &
done
wait
