#!/bin/sh
# Redis with the users of redis.acl, which lies beside this file; their passwords come from the environment.
# Further arguments are Redis' own.
set -eu
umask 077

hash() {
    [ -n "$1" ] || { echo "a password of Redis is empty" >&2; exit 1; }
    printf %s "$1" | sha256sum | cut -c1-64
}

api=$(hash "${REDIS_API_PASSWORD:-}")
worker=$(hash "${REDIS_WORKER_PASSWORD:-}")
courier=$(hash "${REDIS_COURIER_PASSWORD:-}")
admin=$(hash "${REDIS_ADMIN_PASSWORD:-}")
unset REDIS_API_PASSWORD REDIS_WORKER_PASSWORD REDIS_COURIER_PASSWORD REDIS_ADMIN_PASSWORD

users=${TMPDIR:-/tmp}/users.acl
# An ACL file has no comments.
sed -e '/^#/d' -e '/^$/d' -e "s/%api%/#$api/" -e "s/%worker%/#$worker/" -e "s/%courier%/#$courier/" \
    -e "s/%admin%/#$admin/" \
    "$(dirname "$0")/redis.acl" > "$users"

exec redis-server --aclfile "$users" --appendonly yes --appendfsync everysec \
    --maxmemory-policy noeviction --save "" "$@"
