# shellcheck shell=bash
# Sourced by scripts/demo, scripts/test and .ci/run: puts cargo on PATH and, on Linux, sees to it
# that there is a C linker for cargo and a Vulkan driver for wgpu. Silent where nothing is missing.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() {
  say "$*"
  exit 1
}

# Would dlopen find the library $1, a path or a bare name?
have_library() {
  local folder IFS=:
  if [[ $1 == */* ]]; then
    [[ -e $1 ]]
    return
  fi
  # ldconfig lives in /sbin, which is not on every user's PATH; musl's prints no cache at all.
  [[ $(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null) == *$'\t'"$1 "* ]] && return
  for folder in ${LD_LIBRARY_PATH:-} /lib /lib64 /usr/lib /usr/lib64 \
    "/usr/lib/$(uname -m)-linux-gnu"; do
    [[ -e $folder/$1 ]] && return
  done
  return 1
}

# Does the driver manifest $1 name a library that is there and has something to run on?
usable_driver() {
  local library node
  library=$(sed -n 's/.*"library_path"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' "$1")
  case $library in
    '') return 1 ;;
    /*) ;;
    */*) library=$(dirname "$1")/$library ;; # relative to the manifest
  esac
  have_library "$library" || return
  # Mesa's llvmpipe and SwiftShader run on the CPU; any other driver needs a GPU this user may open.
  case $library in
    *vulkan_lvp* | *swiftshader*) return 0 ;;
  esac
  for node in /dev/dri/renderD* /dev/nvidiactl /dev/dxg /dev/mali*; do
    [[ -r $node && -w $node ]] && return
  done
  return 1
}

# Would the Vulkan loader find a driver? Looks where the loader looks, in files alone, since
# nothing is built yet that could ask it.
have_vulkan() {
  local places folder place manifest IFS=:
  have_library libvulkan.so.1 || return
  places=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
  if [[ -z $places ]]; then
    places=${VK_ADD_DRIVER_FILES:-}
    for folder in ${XDG_CONFIG_HOME:-${HOME:-}/.config} ${XDG_CONFIG_DIRS:-/etc/xdg} \
      /usr/local/etc /etc ${XDG_DATA_HOME:-${HOME:-}/.local/share} \
      ${XDG_DATA_DIRS:-/usr/local/share:/usr/share} /run/opengl-driver/share; do
      places+=:$folder/vulkan/icd.d
    done
  fi
  for place in $places; do # each a manifest or a folder of them
    for manifest in "$place" "$place"/*.json; do
      [[ -f $manifest ]] && usable_driver "$manifest" && return
    done
  done
  return 1
}

# Whether WGPU_BACKEND, a list of backends to choose from, leaves Vulkan in.
wants_vulkan() {
  local backends
  backends=,$(tr -d '[:space:]' <<<"${WGPU_BACKEND:-vulkan}" | tr '[:upper:]' '[:lower:]'),
  [[ $backends == *,vulkan,* || $backends == *,vk,* ]]
}

# Runs apt-get as root, with nobody there to answer questions; its output shows only if it fails.
apt_get() {
  local log root=()
  ((EUID == 0)) || root=(sudo)
  # The lock's timeout is for a fresh machine's own updates, which may be under way.
  log=$("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null 2>&1) && return
  printf '%s\n' "$log" >&2
  return 1
}

# What is missing for a build and a run on Linux, installed with apt-get.
setup_linux() {
  local packages=() missing=''
  if ! command -v cc >/dev/null; then
    packages+=(gcc libc6-dev)
    missing='C linker'
  fi
  if wants_vulkan && ! have_vulkan; then
    packages+=(libvulkan1 mesa-vulkan-drivers)
    missing+="${missing:+ and no }Vulkan driver"
  fi
  [[ $missing ]] || return 0

  if ! command -v apt-get >/dev/null; then
    fail "no $missing found: install gcc, the Vulkan loader and Mesa's Vulkan drivers" \
      "(Fedora: gcc vulkan-loader mesa-vulkan-drivers; Arch: gcc vulkan-icd-loader vulkan-swrast)"
  fi
  if ((EUID != 0)) && ! command -v sudo >/dev/null; then
    fail "no $missing found, and no sudo to install with: as root, apt-get install ${packages[*]}"
  fi
  say "no $missing found: installing ${packages[*]} with apt-get"
  if ((EUID != 0)) && ! sudo true </dev/null; then
    fail "sudo refused: as root, apt-get install ${packages[*]}"
  fi
  # One unreachable source fails the update, not the install, so the install alone decides.
  apt_get update || say "apt-get update failed: installing from the lists at hand"
  apt_get install -y --no-install-recommends "${packages[@]}" ||
    fail "apt-get could not install ${packages[*]}"
  if wants_vulkan && ! have_vulkan; then
    fail "the Vulkan loader still finds no driver: see VK_DRIVER_FILES and XDG_DATA_DIRS"
  fi
}

if ! command -v cargo >/dev/null; then
  PATH=${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH
  command -v cargo >/dev/null || fail "cargo not found: install Rust from https://rustup.rs"
fi
# macOS and Windows come with Metal and DX12.
if [[ $(uname -s) == Linux ]]; then
  setup_linux
fi
