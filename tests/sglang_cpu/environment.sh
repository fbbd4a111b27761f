#!/usr/bin/env bash
# Makes, once, an environment in which SGLang runs on a CPU; prints its interpreter's path.
# It is kept in the cache under a hash of what it is made of; r2r is put into it each time.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3.11}"
sglang=sglang==0.5.23
made_of="$(cat "$here/requirements.txt" "$here/stub/torchvision/__init__.py"; "$python" -V; echo "$sglang")"
hash="$(sha256sum <<<"$made_of" | cut -c1-12)"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/r2r/sglang-$hash"
pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
{
  if [ ! -e "$folder/.installed" ]; then
    echo "Installing SGLang for tests into $folder (once; 3 GB, a few minutes) ..."
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "${pip[@]}" -r "$here/requirements.txt"
    "${pip[@]}" --no-deps "$sglang"
    cp -r "$here/stub/torchvision" "$("$folder/bin/python" -c 'import site; print(site.getsitepackages()[0])')"
    touch "$folder/.installed"
  fi
  "$folder/bin/python" -m pip uninstall --quiet --yes r2r  # its name before r2r-routing
  "${pip[@]}" --no-deps --no-build-isolation -e "$here/../.."
} >&2
echo "$folder/bin/python"
