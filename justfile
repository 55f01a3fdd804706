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

# Every attack on every transport, one after another, with the bounds of a quiet machine, and a table of what it costs.
attacks *ARGS:
    PIPE_HOSTILE_SLACK=1 cargo test --release --workspace --test attacks -- {{ARGS}}

# Ours and the alternatives, in turn.
bench *ARGS:
    cargo run --release -p pipe-bench -- {{ARGS}}

# SCTP beside other stacks, over simulated paths.
bench-sctp *ARGS:
    cargo run --release --manifest-path pipe-sctp/differential/Cargo.toml -- {{ARGS}}

# SCTP for long: a day of traffic, a million streams, a hundred million forged packets.
soak-sctp:
    ci/soak-sctp

# Everything, as CI does it.
ci:
    .ci/run
