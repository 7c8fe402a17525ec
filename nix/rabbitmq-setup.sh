#!/bin/sh
# Makes RabbitMQ's virtual host VHOST and the users of TABLE, with their passwords and permissions, also where some are there already.
#
#   rabbitmq-setup.sh VHOST TABLE
#
# A line of TABLE is: USER CONFIGURE WRITE READ. USER's password is the first line of $CREDENTIALS_DIRECTORY/password.USER; it goes to
# rabbitmqctl by standard input, since everyone may read a process's arguments.
set -eu
vhost=${1:?VHOST TABLE} table=${2:?VHOST TABLE}

rabbitmqctl -q await_startup --timeout 240 </dev/null
rabbitmqctl -q add_vhost "$vhost" </dev/null

present=$(rabbitmqctl -q list_users --no-table-headers </dev/null | cut -f 1)
while read -r user configure write read; do
  password=$CREDENTIALS_DIRECTORY/password.$user
  if ! grep -q . "$password"; then
    echo "the password of $user is empty, or not there: services.conveyor.rabbitmq.users.$user.passwordFile" >&2
    exit 78
  fi
  how=add_user
  if printf '%s\n' "$present" | grep -qxF -- "$user"; then how=change_password; fi
  rabbitmqctl -q "$how" "$user" <"$password" >/dev/null
  rabbitmqctl -q set_permissions -p "$vhost" "$user" "$configure" "$write" "$read" </dev/null
  echo "$user: $how, $configure $write $read in $vhost"
done <"$table"

# RabbitMQ makes it with a password that everyone knows.
if printf '%s\n' "$present" | grep -qxF guest; then rabbitmqctl -q delete_user guest </dev/null; fi
