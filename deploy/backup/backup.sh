#!/usr/bin/env bash
# A backup of the books and of Dagster's log into $1/<UTC time>: heads first, then both databases, then checksums.
# Needs LEDGER_DATABASE_URL, the client tools of the server's version or newer, and ledger.yaml in the working folder.
set -euo pipefail
umask 077
: "${LEDGER_DATABASE_URL:?is not set}"
target="${1:?usage: backup.sh FOLDER}/$(date -u +%Y%m%dT%H%M%SZ)"
mkdir -p "$target.part"

# The heads are noted before the dump starts: the dump holds them, and perhaps newer batches. Findings don't stop a backup.
state=0
ledger-pipeline verify --json > "$target.part/heads.json" || state=$?
pg_dump --format=custom --no-password --dbname="$LEDGER_DATABASE_URL" --file="$target.part/ledger.dump"
pg_dump --format=custom --no-password --dbname="${LEDGER_DATABASE_URL/\/ledger//dagster}" --file="$target.part/dagster.dump"
(cd "$target.part" && sha256sum heads.json ledger.dump dagster.dump > SHA256SUMS)
mv "$target.part" "$target"
echo "wrote $target"
if [ "$state" -ne 0 ]; then
  echo "error: verify found something wrong (exit code $state): see $target/heads.json" >&2
  exit 1
fi
