#!/bin/sh
# Installs in a new system what Debian does not have, from the registries of
# PyPI and npm, at fixed versions with fixed hashes. $1 is the system's root;
# this script's folder has what it needs.
set -eu
root=$1
here=$(dirname "$0")
work=$root/tmp/atoll-install
export HOME=/tmp/atoll-install LC_ALL=C.UTF-8

while IFS= read -r setting; do export "$setting"; done <"$here/environment"

mkdir "$work"
cp -r "$here/deno" "$here/requirements.txt" "$work"
if [ -e "$here/ca.pem" ]; then # the host's authorities: there may be a proxy
  cp "$here/ca.pem" "$work"
  export PIP_CERT=$HOME/ca.pem REQUESTS_CA_BUNDLE=$HOME/ca.pem NODE_EXTRA_CA_CERTS=$HOME/ca.pem
fi

echo "I: installing Python packages"
chroot "$root" pip install --no-deps --no-compile --no-cache-dir --only-binary :all: --require-hashes \
  --progress-bar off --disable-pip-version-check --root-user-action=ignore -r "$HOME/requirements.txt"

# A tenth of the image and of the time to build it would be tests of these.
cd "$root"/usr/local/lib/python3*/dist-packages
for package in pandas scipy sklearn statsmodels sympy pyarrow networkx; do
  find "$package" -type d -name tests -prune -exec rm -r {} +
done
rm -r pyarrow/include
# Programs trust what the system trusts, which people may add to.
ln -sf /etc/ssl/certs/ca-certificates.crt certifi/cacert.pem

echo "I: compiling Python packages"
chroot "$root" python3 -m compileall -q -j 0 "${PWD#"$root"}"

echo "I: installing the JavaScript kernel"
chroot "$root" npm ci --prefix "$HOME/deno" --no-audit --no-fund --no-update-notifier --loglevel error
mv "$work"/deno/node_modules/@deno/*/deno "$root/usr/local/bin/deno"
rm -r "$work"
