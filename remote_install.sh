#!/usr/bin/env bash
# Installs `nebu` for you alone, or upgrades it; with --uninstall, removes it again:
#
#   curl -fsSL https://raw.githubusercontent.com/agentsea/nebulous/main/remote_install.sh | bash
#   curl -fsSL https://raw.githubusercontent.com/agentsea/nebulous/main/remote_install.sh | bash -s -- --uninstall
#
# What it makes: a private environment in ${XDG_DATA_HOME:-~/.local/share}/nebulous and the link ~/.local/bin/nebu.
# It leaves ~/.nebu alone: your contexts, and what a server on this machine keeps.
# NEBU_INSTALL_SOURCE names something else to install: a folder, a wheel, or a requirement such as nebulous-run==0.1.0.
set -euo pipefail

HOME_FOLDER="${XDG_DATA_HOME:-$HOME/.local/share}/nebulous"
ENVIRONMENT="$HOME_FOLDER/venv"
BIN="$HOME/.local/bin"
LINK="$BIN/nebu"

fail() {
    echo "nebulous: $*" >&2
    exit 1
}

# Everything is in functions, so that half a download does nothing.
main() {
    case "${1:-}" in
        "") install ;;
        --uninstall) uninstall ;;
        *) fail "there is no option '$1': it takes none, or --uninstall" ;;
    esac
}

install() {
    local source
    if [ -e "$LINK" ] || [ -L "$LINK" ]; then
        ours || fail "$LINK exists and is not ours: move it away, then run this again"
    fi
    source=$(source_of)
    # An environment whose Python has gone, or that was interrupted half-made, is made anew.
    if ! "$ENVIRONMENT/bin/python" -I -m pip --version >/dev/null 2>&1; then
        make_environment
    fi
    echo "installing $source"
    pip_install --upgrade "$source"
    if [ -f "$source" ]; then
        pip_install --force-reinstall --no-deps "$source"  # a file of the same version may hold something else
    fi
    mkdir -p "$BIN"
    ln -sfn "$ENVIRONMENT/bin/nebu" "$LINK"
    echo "installed $("$LINK" --version) as $LINK"
    case ":$PATH:" in
        *":$BIN:"*) echo "next: nebu serve, or nebu login to use somebody's server" ;;
        *) echo "next: add it to your PATH, in ~/.profile or ~/.zprofile:  export PATH=\"$BIN:\$PATH\"" ;;
    esac
}

uninstall() {
    rm -rf "$ENVIRONMENT"
    if ours; then
        rm -f "$LINK"
    fi
    if [ -d "$HOME_FOLDER" ]; then
        rmdir "$HOME_FOLDER" 2>/dev/null || echo "kept $HOME_FOLDER: there is something in it that is not ours"
    fi
    echo "uninstalled; contexts and server state, if any, are still in ~/.nebu"
}

ours() {
    [ "$(readlink "$LINK" 2>/dev/null)" = "$ENVIRONMENT/bin/nebu" ]
}

# Named by hand, else the checkout that this file lies in, else the released package.
source_of() {
    local beside
    if [ -n "${NEBU_INSTALL_SOURCE:-}" ]; then
        echo "$NEBU_INSTALL_SOURCE"
        return
    fi
    if [ -n "${BASH_SOURCE[0]:-}" ]; then  # unset when piped
        beside=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
        if grep -q '^name = "nebulous-run"' "$beside/pyproject.toml" 2>/dev/null; then
            echo "$beside"
            return
        fi
    fi
    echo nebulous-run
}

make_environment() {
    local python
    python=$(find_python)
    [ -n "$python" ] || fail "needs Python 3.11 or newer, which is not on your PATH: install it, then run this again" \
        "(Debian and Ubuntu: sudo apt install python3 python3-venv; macOS: brew install python)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module: install it (Debian and Ubuntu: sudo apt install python3-venv), then run this again"
    mkdir -p "$HOME_FOLDER"
    "$python" -m venv --clear "$ENVIRONMENT"
}

# A name that exists may be a shim without an interpreter behind it, so each is asked.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$name"
            return
        fi
    done
}

pip_install() {
    "$ENVIRONMENT/bin/python" -I -m pip install --quiet --disable-pip-version-check "$@" </dev/null ||
        fail "the installation did not finish; what pip said is above. Nothing else was changed: run this again"
}

main "$@"
