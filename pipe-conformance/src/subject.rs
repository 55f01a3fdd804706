use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pipe_core::{Addr, BoxTransport, Config, Result};

use crate::case::Case;
use crate::cases;
use crate::env::{Context, Env, Role};
use crate::fixture::{Capability, Clock, Fixture, Setup, Stalled};
use crate::run::Mode;

/// A [`Fixture`] without the type of its transport.
pub(crate) trait Subject: Send + Sync {
    fn name(&self) -> &str;
    fn lacks(&self) -> Vec<(Capability, &'static str)>;
    fn clock(&self) -> Clock;
    fn limit(&self) -> Duration;
    fn soon(&self) -> Duration;
    fn listen_addr(&self) -> Addr;
    fn open_addr(&self) -> Addr;
    fn vacant_addr(&self) -> Addr;
    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>>;

    /// Makes a transport that nothing harms.
    fn erased(&self, config: Config) -> Result<BoxTransport>;

    /// Makes a transport, and returns a run of the case over it. A message says why there is none.
    fn start(
        self: Arc<Self>,
        case: &Case,
        mode: Mode,
        role: Role,
        seed: u64,
    ) -> Result<BoxFuture<'static, ()>, String>;
}

impl<F: Fixture> Subject for F {
    fn name(&self) -> &str {
        Fixture::name(self)
    }

    fn lacks(&self) -> Vec<(Capability, &'static str)> {
        Fixture::lacks(self)
    }

    fn clock(&self) -> Clock {
        Fixture::clock(self)
    }

    fn limit(&self) -> Duration {
        Fixture::limit(self)
    }

    fn soon(&self) -> Duration {
        Fixture::soon(self)
    }

    fn listen_addr(&self) -> Addr {
        Fixture::listen_addr(self)
    }

    fn open_addr(&self) -> Addr {
        Fixture::open_addr(self)
    }

    fn vacant_addr(&self) -> Addr {
        Fixture::vacant_addr(self)
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        Fixture::stall(self, addr)
    }

    fn erased(&self, config: Config) -> Result<BoxTransport> {
        Ok(BoxTransport::new(self.setup(config)?.transport))
    }

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
