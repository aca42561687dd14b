#!/bin/bash
# Makes the bucket, the policies beside this file and the logins that have them, in the MinIO at S3_ENDPOINT; run again,
# it changes what has changed. docker-compose.yaml (minio-init) and deploy/native/stack.py run it.
# Secrets go to `mc` by its standard input: command lines are there for everybody to see.
set -euo pipefail

here=${BASH_SOURCE[0]%/*}
prefix=$S3_PREFIX
data=${LTR_DATA_URI#"s3://$S3_BUCKET/"}
if [[ $data == "$LTR_DATA_URI" ]]; then
  echo "LTR_DATA_URI is $LTR_DATA_URI: set it to a folder in s3://$S3_BUCKET, the only bucket that the logins are for" >&2
  exit 1
fi

MC_CONFIG_DIR=$(mktemp -d)
export MC_CONFIG_DIR
trap 'rm -rf "$MC_CONFIG_DIR"' EXIT
mc() { command "${MC:-mc}" --quiet "$@"; }

policy() {
  local text
  text=$(<"$here/$1.json")
  text=${text//@BUCKET@/$S3_BUCKET}
  text=${text//@PREFIX@/$prefix}
  mc admin policy create stack "ltr-$1" /dev/stdin <<< "${text//@DATA@/$data}"
}

login() { printf '%s\n' "$1" "$2" | mc admin user add stack; }

printf '%s\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" | mc alias set stack "$S3_ENDPOINT" > /dev/null
mc mb --ignore-existing "stack/$S3_BUCKET"
policy airflow
policy serving
policy rollback
login "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
login ltr-serving "$MINIO_SERVING_PASSWORD"
mc admin policy attach stack ltr-airflow --user "$AWS_ACCESS_KEY_ID"
mc admin policy attach stack ltr-serving --user ltr-serving
case ${LTR_AUTO_ROLLBACK,,} in
  1 | true | t | yes | y | on) mc admin policy attach stack ltr-rollback --user ltr-serving ;;
  *) mc admin policy detach stack ltr-rollback --user ltr-serving ;;
esac
