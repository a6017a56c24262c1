#!/usr/bin/env bash
# Restores a backup ($1, a folder of backup.sh) into a database of its own, proves it against the noted heads ($2, default: those of the backup),
# and drops the database again unless KEEP=1. DRILL_SERVER_URL names the server: a login with CREATEDB and CREATEROLE, and any database of it.
set -euo pipefail
: "${DRILL_SERVER_URL:?is not set}"
backup="${1:?usage: restore_drill.sh BACKUP [HEADS]}"
heads="$(realpath "${2:-$backup/heads.json}")"
name="ledger_drill_$(date -u +%Y%m%d%H%M%S)"
url="$(python3 -c 'import sys; from urllib.parse import urlsplit, urlunsplit; p = urlsplit(sys.argv[1]); print(urlunsplit(p._replace(path="/" + sys.argv[2])))' "$DRILL_SERVER_URL" "$name")"

(cd "$backup" && sha256sum --check --quiet SHA256SUMS)
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$DRILL_SERVER_URL" <<SQL
DO \$\$ DECLARE wanted text; BEGIN
  FOREACH wanted IN ARRAY ARRAY['ledger_pipeline_writer', 'ledger_pipeline_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
      EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
    END IF;
  END LOOP;
END \$\$;
CREATE DATABASE $name ENCODING 'UTF8' TEMPLATE template0;
SQL
began=$SECONDS
pg_restore --exit-on-error --no-owner --no-password --dbname="$url" "$backup/ledger.dump"
echo "restored into $name in $((SECONDS - began)) s"
state=0
LEDGER_DATABASE_URL="$url" ledger-pipeline restore check "$heads" || state=$?
if [ "${KEEP:-}" = 1 ]; then
  echo "kept $name"
else
  psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="DROP DATABASE $name" "$DRILL_SERVER_URL"
fi
exit "$state"
