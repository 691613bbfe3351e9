#!/bin/sh
# Installs what is missing through the system's package manager, and says so: need.sh postgresql chromium
# PostgreSQL comes without a server of its own being made, started or enabled; the service runs its own.
set -eu

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then say "  (asking sudo for: $*)"; sudo "$@"
    else say "This needs root: $*"; exit 3
    fi
}

have_postgresql() {
    command -v postgres >/dev/null 2>&1 && return 0
    for program in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
        /opt/homebrew/opt/postgresql@*/bin/postgres /usr/local/opt/postgresql@*/bin/postgres; do
        [ -x "$program" ] && return 0
    done
    return 1
}

have_chromium() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

install_packages() { # what, then "manager:package" for each manager
    what=$1; shift
    for choice in "$@"; do
        manager=${choice%%:*}; package=${choice#*:}
        command -v "$manager" >/dev/null 2>&1 || continue
        say "$what is missing. Installing the package $package with $manager; this happens once."
        case $manager in
        apt-get)
            as_root apt-get update -qq >/dev/null
            [ "$package" != gcc ] || package="gcc libc6-dev"
            # shellcheck disable=SC2086 # a list of packages
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $package >/dev/null ;;
        dnf) as_root dnf install -y -q "$package" ;;
        apk) as_root apk add --quiet "$package" ;;
        pacman) as_root pacman -S --noconfirm --needed "$package" ;;
        brew) brew install --quiet "$package" ;;
        esac
        return 0
    done
    say "$what is missing, and no known package manager is here. Install it and try again."
    exit 3
}

for need in "$@"; do
    case $need in
    postgresql)
        have_postgresql && continue
        if command -v apt-get >/dev/null 2>&1; then
            # Debian and Ubuntu would otherwise make and start a server.
            as_root mkdir -p /etc/postgresql-common/createcluster.d
            echo "create_main_cluster = false" | as_root tee /etc/postgresql-common/createcluster.d/counterfoil.conf >/dev/null
        fi
        install_packages PostgreSQL apt-get:postgresql dnf:postgresql-server apk:postgresql pacman:postgresql brew:postgresql@17
        have_postgresql || { say "PostgreSQL was installed, but its programs are not where they are looked for."; exit 3; } ;;
    chromium)
        have_chromium && continue
        install_packages "Chromium (for the browser tests)" apt-get:chromium dnf:chromium apk:chromium pacman:chromium brew:chromium
        have_chromium || { say "Chromium was installed, but is not on the PATH."; exit 3; } ;;
    npm)
        command -v npm >/dev/null 2>&1 && continue
        install_packages "npm (fetches axe-core for the accessibility tests)" apt-get:npm dnf:npm apk:npm pacman:npm brew:node
        command -v npm >/dev/null 2>&1 || { say "npm was installed, but is not on the PATH."; exit 3; } ;;
    gcc)
        command -v gcc >/dev/null 2>&1 && continue
        install_packages "A C compiler (for the race detector)" apt-get:gcc dnf:gcc apk:build-base pacman:gcc brew:gcc ;;
    ssh)
        command -v ssh-agent >/dev/null 2>&1 && command -v ssh-keygen >/dev/null 2>&1 && continue
        install_packages "ssh-agent (for the outside witness)" apt-get:openssh-client dnf:openssh-clients apk:openssh pacman:openssh brew:openssh ;;
    sqlite3)
        command -v sqlite3 >/dev/null 2>&1 && continue
        install_packages "sqlite3 (for the outside witness)" apt-get:sqlite3 dnf:sqlite apk:sqlite pacman:sqlite brew:sqlite ;;
    *) say "need.sh knows postgresql, chromium, npm, gcc, ssh and sqlite3, not $need"; exit 2 ;;
    esac
done
