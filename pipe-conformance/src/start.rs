use std::sync::Arc;

use futures::future::BoxFuture;
use pipe_core::BoxTransport;

use crate::case::Case;
use crate::cases;
use crate::env::{Context, Env, Role};
use crate::fixture::{Capability, Fixture, Setup};
use crate::mode::Mode;
use crate::subject::Subject;

/// A [`Subject`] on which cases can run.
pub(crate) trait Start: Subject {
    /// Makes a transport, and returns a run of the case over it. A message says why there is none.
    fn start(
        self: Arc<Self>,
        case: &Case,
        mode: Mode,
        role: Role,
        seed: u64,
    ) -> Result<BoxFuture<'static, ()>, String>;
}

impl<F: Fixture> Start for F {
    fn start(
        self: Arc<Self>,
        case: &Case,
        mode: Mode,
        role: Role,
        seed: u64,
    ) -> Result<BoxFuture<'static, ()>, String> {
        let config = (case.config)(Fixture::config(&*self));
        let setup = if case.needs.contains(&Capability::Faults) {
            self.setup_with_faults(config.clone())
        } else {
            self.setup(config.clone())
        };
        let Setup { transport, faults } =
            setup.map_err(|e| format!("the fixture's setup failed: {e:?}"))?;
        let context = Context {
            subject: self,
            faults,
            config,
            role,
            seed,
        };
        match mode {
            Mode::Erased => Ok((case.run)(Env::new(BoxTransport::new(transport), context))),
            Mode::Static => match cases::static_run::<F::Transport>(case.name) {
                Some(run) => Ok(run(Env::new(transport, context))),
                None => Err("it runs through the erased types only".to_owned()),
            },
        }
    }
}
