//! Models of what pipewerks has written by hand to wake tasks: [loom](https://docs.rs/loom) runs each in every order
//! that its threads can take, and with every value that a read may see.
//!
//! The modules below are the very files of the crates. Their `crate::sync`, and the few types of their crates that
//! they name, are those of this program. A task that is never woken ends a model as a deadlock.
//!
//! ```text
//! cargo run --manifest-path models/Cargo.toml [FILTER]
//! ```

mod close_reason;
mod event;
mod link;
mod list;
mod notify;
mod pipe;
mod queues;
mod sync;
mod turns_of_the_driver;

#[allow(dead_code)]
#[path = "../../pipe-core/src/backend/backlog.rs"]
mod backlog;
#[allow(dead_code)]
#[path = "../../pipe-core/src/backend/close_cell.rs"]
mod close_cell;
#[allow(dead_code)]
#[path = "../../pipe-inproc/src/lane.rs"]
mod lane;
#[allow(dead_code)]
#[path = "../../pipe-inproc/src/profile.rs"]
mod profile;
#[allow(dead_code)]
#[path = "../../pipe-inproc/src/side.rs"]
mod side;
#[allow(dead_code)]
#[path = "../../pipe-inproc/src/stream_core.rs"]
mod stream_core;
#[allow(dead_code)]
#[path = "../../pipe-mux/src/turns.rs"]
mod turns;
#[allow(dead_code)]
#[path = "../../pipe-core/src/backend/window.rs"]
mod window;
#[allow(dead_code)]
#[path = "../../pipe-inproc/src/wire.rs"]
mod wire;

use std::time::Instant;

pub(crate) use close_reason::CloseReason;

/// Maximum number of times that threads are interrupted, beside where they wait. Three show every fault that was put
/// into these files for a try. Each further one takes ten times as long.
const PREEMPTIONS: usize = 3;

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let mut passed = 0;
    for (file, models) in [
        ("turns", turns_of_the_driver::models()),
        ("queues", queues::models()),
        ("link", link::models()),
    ] {
        for (name, model) in models {
            let name = format!("{file}::{name}");
            if !name.contains(&filter) {
                continue;
            }
            let started = Instant::now();
            // The first that fails ends the program.
            println!("model {name}");
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = Some(PREEMPTIONS);
            builder.check(model);
            println!("    ok, {:.1} s", started.elapsed().as_secs_f64());
            passed += 1;
        }
    }
    println!("{passed} passed, 0 failed");
}
