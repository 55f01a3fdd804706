use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Subscriber};
use pipe_core::{Error, Result};
use pipe_tls::TlsOptions;

use crate::addr::{NatsAddr, Servers};
use crate::broker::{Broker, Brokers, Use};

/// Time for which a client tries to connect again, at least.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a transport reaches brokers.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) brokers: Brokers,
    pub(crate) options: ConnectOptions,
    pub(crate) tls: TlsOptions,
    /// Time for which a client tries to connect again.
    pub(crate) patience: Duration,
}

/// Where the requests of a listener come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) reach: Reach,
    pub(crate) on: NatsAddr,
    pub(crate) group: String,
}

impl Reach {
    /// Reaches brokers without credentials.
    pub(crate) fn new() -> Self {
        Self {
            brokers: Brokers::default(),
            options: ConnectOptions::new().name("pipewerks"),
            tls: TlsOptions::new(),
            patience: PATIENCE,
        }
    }

    /// Has clients try to connect again for longer than connections wait for a peer.
    pub(crate) fn outlast(&mut self, failed_after: Duration) {
        self.patience = PATIENCE.max(failed_after.saturating_mul(2));
    }

    /// Returns a client of these servers.
    pub(crate) async fn broker(&self, servers: &Servers) -> Result<Arc<Broker>> {
        let options = || {
            // A broker may ask for TLS even where the address does not.
            let config = self.tls.client_config(None, &[]);
            Ok(match config {
                Ok(config) => self.options.clone().tls_client_config((*config).clone()),
                Err(error) if servers.tls => return Err(error),
                Err(_) => self.options.clone(),
            })
        };
        self.brokers.get(servers, self.patience, options).await
    }
}

impl Source {
    /// Joins the queue group of the subject. The broker sends requests from the moment on at which this is over.
    pub(crate) async fn subscribe(&self) -> Result<(Arc<Broker>, Subscriber)> {
        let broker = self.reach.broker(&self.on.servers).await?;
        let subject = self.on.subject.clone();
        let mut watch = broker.watch();
        let subscribed = async {
            let requests = broker.subscribe_in(subject.clone(), &self.group).await?;
            broker.settle().await?;
            Ok::<_, Error>(requests)
        };
        let requests = tokio::select! {
            biased;
            error = watch.forbidden(Use::Subscription, &subject) => return Err(error),
            requests = subscribed => requests?,
        };
        Ok((broker, requests))
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options have credentials in them.
        f.debug_struct("Reach")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
