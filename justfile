# The commands that CI runs, one by one. `just` lists them.

default:
    @just --list

# Every test of the workspace.
test:
    cargo test --workspace

# Formatting, lints and docs, each without a warning.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Licences, bans and sources of the dependencies.
deny:
    cargo deny --log-level error check bans licenses sources

# The main job: files over every transport in turn.
swap *ARGS:
    cargo run --release --example swap -- {{ARGS}}

# The contract against every transport, with its matrix.
conformance *ARGS:
    cargo test --test conformance -- {{ARGS}}

# The conformance suite again and again beside two busy loops.
soak RUNS="50":
    ci/soak {{RUNS}}

# What WebRTC promises to do every time, a thousand times.
soak-webrtc *TESTS:
    ci/soak-webrtc {{TESTS}}

# Ours and the alternatives, in turn.
bench *ARGS:
    cargo run --release -p pipe-bench -- {{ARGS}}

# Everything, as CI does it.
ci:
    .ci/run
