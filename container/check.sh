#!/bin/sh
# What the container relies on: `container/check.sh target/release/limn`. It starts nothing that stays.
set -eu
limn=$1

fail() {
    echo "container/check.sh: $*" >&2
    exit 1
}

"$limn" --version

# The image has no other libraries than those of distroless/cc.
if command -v ldd >/dev/null && [ "$(uname -s)" = Linux ]; then
    ldd "$limn" | while read -r library _; do
        case $library in
            linux-vdso.so* | libc.so* | libm.so* | libgcc_s.so* | libpthread.so* | libdl.so* | librt.so* | */ld-linux* ) ;;
            *) fail "the binary needs \`$library\`, which the image does not have" ;;
        esac
    done
fi

# Where nobody serves, the health check fails, and soon.
port_of_nobody=1
if "$limn" health --port "$port_of_nobody" 2>/dev/null; then
    fail "\`limn health\` succeeds although nobody serves"
fi
echo "the binary is fit for the container"
