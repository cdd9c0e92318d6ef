# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: everything tunas is built from, as Debian packages. Says in
# one line what it is about to install; does nothing when all of it is there.
packages=(g++ cmake ninja-build pkg-config libdnnl-dev libcli11-dev nlohmann-json3-dev libspdlog-dev
  libfmt-dev libjpeg-dev libpng-dev zlib1g-dev libxxhash-dev libgloo-dev libgtest-dev
  libbenchmark-dev dataset-fashion-mnist)

install_packages() {
  local missing=() package as_root=()
  if ! command -v dpkg-query apt-get >/dev/null; then
    echo "No apt-get here; expecting the counterparts of: ${packages[*]}"
    return
  fi
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    echo "All packages are there."
    return
  fi
  echo "Installing with apt-get: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "Installing needs root: run this as root, or install sudo." >&2
      return 1
    }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build FOLDER TARGET... [-- CMAKE_OPTION...]: configures and builds; the output is shown only where
# it fails or where a person watches. With ccache, folders share objects that are the same in both.
build() {
  local folder=$1 targets=() log
  shift
  if command -v ccache >/dev/null; then
    export CCACHE_NOHASHDIR=1 CMAKE_CXX_COMPILER_LAUNCHER=ccache
  fi
  while [ $# -gt 0 ] && [ "$1" != -- ]; do targets+=("$1") && shift; done
  [ $# -gt 0 ] && shift
  mkdir -p "$folder"
  log=$folder/build.log
  echo "Building ${targets[*]} in $folder"
  if [ -t 1 ]; then
    cmake -S . -B "$folder" -G Ninja "$@" >"$log" && cmake --build "$folder" --target "${targets[@]}"
  else
    { cmake -S . -B "$folder" -G Ninja "$@" &&
      cmake --build "$folder" --target "${targets[@]}"; } >"$log" 2>&1
  fi || {
    tail -n 40 "$log" >&2
    return 1
  }
}
