use std::fmt;

use futures::future::BoxFuture;
use pipe_core::{BoxTransport, Config};

use crate::env::{Env, Role};
use crate::fixture::Capability;

/// One case of the suite.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// The behaviour that it shows, in snake case. It identifies the case.
    pub(crate) name: &'static str,
    /// The part of the contract that it belongs to.
    pub(crate) group: &'static str,
    /// What the transport must be able to do, or the case is skipped.
    pub(crate) needs: &'static [Capability],
    /// The roles that it runs in.
    pub(crate) roles: &'static [Role],
    /// Whether it measures the process, and so runs in one of its own.
    pub(crate) isolated: bool,
    /// How many times the fixture's limit it may take.
    pub(crate) weight: u32,
    /// What it changes in the fixture's configuration.
    pub(crate) config: fn(Config) -> Config,
    /// The case itself, through the erased types; it fails by panicking.
    pub(crate) run: CaseFn<BoxTransport>,
}

/// The function of a case, through the types of one transport.
pub(crate) type CaseFn<T> = fn(Env<T>) -> BoxFuture<'static, ()>;

/// A [`Case`] of the async function of its name.
macro_rules! case {
    ($run:ident) => {
        $crate::case::Case::new(stringify!($run), |env| Box::pin($run(env)))
    };
}
pub(crate) use case;

impl Case {
    /// A case that runs in both roles within the fixture's limit and configuration, and needs nothing
    /// special.
    pub(crate) fn new(name: &'static str, run: CaseFn<BoxTransport>) -> Self {
        Self {
            name,
            group: "",
            needs: &[],
            roles: &[Role::DialerOpens, Role::ListenerOpens],
            isolated: false,
            weight: 1,
            config: |config| config,
            run,
        }
    }

    /// Skips the case for transports that lack one of these.
    pub(crate) fn needs(mut self, needs: &'static [Capability]) -> Self {
        self.needs = needs;
        self
    }

    /// Runs the case once, because no side opens streams in it, or both do.
    pub(crate) fn once(mut self) -> Self {
        self.roles = &[Role::DialerOpens];
        self
    }

    /// Runs the case in a process of its own, because it measures the process.
    pub(crate) fn isolated(mut self) -> Self {
        self.isolated = true;
        self
    }

    /// Gives the case so many times the fixture's limit.
    pub(crate) fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Changes the configuration for the case.
    pub(crate) fn config(mut self, config: fn(Config) -> Config) -> Self {
        self.config = config;
        self
    }

    /// Lets the case have a hundred streams at once.
    pub(crate) fn many_streams(self) -> Self {
        self.config(|config| {
            let max = config.max_streams.max(128);
            config.with_max_streams(max)
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
