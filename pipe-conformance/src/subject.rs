use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use pipe_core::{Addr, BoxTransport, Config, Result};

use crate::fixture::{Capability, Clock, Fixture, Stalled};

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
}
