# Find a Python and uv; to be read by the scripts beside it, from the project's folder.

# Settings that would send an installation elsewhere than where the scripts say.
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export UV_PYTHON_DOWNLOADS=never
unset PIP_TARGET PIP_PREFIX PIP_ROOT UV_TARGET UV_PREFIX UV_SYSTEM_PYTHON UV_PYTHON UV_REQUIRE_HASHES

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Print the full path of a Python of 3.11 or later.
find_python() {
    for name in python3.11 python3 python3.12 python3.13 python3.14; do
        # Run it, for a launcher of that name may have nothing to launch.
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    found=$(python3 --version 2>/dev/null || echo none)
    fail "OpenSoul needs Python 3.11 or later, and neither python3.11 nor a python3 that new is on PATH" \
        "(python3 there: $found)"
}

# Print the path of uv: the one on PATH, else the pinned one, fetched into .uv.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        command -v uv
    else
        fetch_uv "$1"
    fi
}

# Fetch the pinned uv into .uv with the Python given, unless it is there; print its path.
fetch_uv() {
    pinned=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
    case "$(.uv/bin/uv --version 2>/dev/null || true) " in
        "uv $pinned "*) ;;
        *) install_uv "$1" "$pinned" >&2 ;;
    esac
    printf '%s\n' "$PWD/.uv/bin/uv"
}

install_uv() {
    rm -rf .uv
    if "$1" -m pip --version >/dev/null 2>&1; then
        say "Fetching uv $2 into .uv"
        # --target, for it needs no venv (Debian's Python has none without python3-venv) and
        # leaves the installed packages alone.
        "$1" -m pip install --quiet --target .uv --require-hashes --requirement requirements/uv.txt
    elif "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        say "Fetching uv $2 into .uv"
        "$1" -m venv .uv
        .uv/bin/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt
    else
        fail "uv is missing, and $1 has neither pip nor ensurepip to fetch it with: install pip for it" \
            "(Debian, Ubuntu: apt-get install python3-pip), or put uv on PATH"
    fi
}
