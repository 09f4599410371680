set shell := ["bash", "-euo", "pipefail", "-c"]

# The crates that are tested and linted on the host; the component is checked for its own target.
native := "-p slidegate-engine -p slidegate -p slidegate-tests"

[private]
default:
    @just --list --unsorted

# Install what is missing: the guests' target, the lints, and Redis from Debian's packages.
setup:
    rustup target add wasm32-unknown-unknown
    rustup component add clippy rustfmt
    command -v redis-server > /dev/null || just apt redis-server

[private]
apt *packages:
    sudo=$([ "$(id -u)" = 0 ] || echo sudo); $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {{packages}}

# dist/slidegate.wasm (component) and dist/slidegate (gateway).
build *flags:
    cargo build --release --locked {{flags}}
    mkdir -p dist
    cp target/guest/wasm32-unknown-unknown/guest/slidegate_component.wasm dist/slidegate.wasm
    cp target/release/slidegate dist/slidegate
    @ls -l dist

# The gateway; without arguments its demo.
run *args:
    cargo run --release --locked -- {{args}}

# Everything: lints, then every test on real parts. Flags go to `cargo test`.
test *flags: setup lint build
    cargo test --release --locked {{native}} {{flags}}

# Formatting, clippy and documentation, all without a warning.
lint:
    cargo fmt --all --check
    cargo clippy --release --locked {{native}} --all-targets -- -D warnings
    cargo clippy --profile guest --locked -p slidegate-component --target wasm32-unknown-unknown --target-dir target/guest -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items {{native}}

# The figures of the README, on this machine, also into dist/bench.md. `--quick` to see that it runs; names of topics for some of it.
bench *args: setup build
    command -v wrk > /dev/null || just apt wrk
    cargo bench --locked -p slidegate-tests --bench figures -- {{args}}
