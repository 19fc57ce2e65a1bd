# Sourced by the other scripts. `make_environment FILE` makes .venv in the project's folder, installs the requirements in
# FILE into it where that is not done yet, and sets $python to its interpreter.

make_environment() {
    local requirements=$1 venv=$project/.venv
    local stamp=$venv/.installed-$(basename "$requirements")
    if [ ! -x "$venv/bin/python" ]; then
        local base=${PYTHON:-python3}
        if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: CPython 3.11 or later is needed; $base is $("$base" --version 2>&1). Set PYTHON=/path/to/python." >&2
            exit 2
        fi
        echo "Making $venv with $("$base" --version)"
        "$base" -m venv "$venv" || {
            rm -rf "$venv"
            echo "error: $base cannot make a virtual environment. On Debian: apt install python3-venv" >&2
            exit 2
        }
    fi
    python=$venv/bin/python
    if ! cat "$project"/requirements*.txt | cmp -s - "$stamp"; then
        echo "Installing $requirements"
        "$python" -m pip install --disable-pip-version-check --progress-bar on -r "$project/$requirements"
        cat "$project"/requirements*.txt >"$stamp"
    fi
}
