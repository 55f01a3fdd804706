use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{AbortHandle, abortable};
use socket2::SockRef;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
    TokioRuntime,
};

use super::super::faults::Faults;
use super::super::task::{Parts, Task};
use super::socket::Socket;
use super::tunnels::Servers;
use super::vitals::Vitals;

/// A runtime on tokio, with larger socket buffers, hurried timers, faults, and one task for the
/// engine and its users.
pub(super) struct PipeRuntime {
    pub(super) inner: TokioRuntime,
    /// The task that the engine becomes a part of, until it has.
    pub(super) task: parking_lot::Mutex<Option<(Arc<Parts>, Task)>>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) faults: Option<Faults>,
    pub(super) servers: Arc<Servers>,
    pub(super) socket_buffer: u32,
    /// Time limit of the address lookup of a STUN or TURN server. The engine does nothing else
    /// meanwhile.
    pub(super) resolve_timeout: Duration,
}

impl fmt::Debug for PipeRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeRuntime").finish_non_exhaustive()
    }
}

impl Runtime for PipeRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        // The first task that the engine spawns is its loop. Others stay unchanged.
        let task = self.task.lock().take();
        let Some((parts, task)) = task else {
            return self.inner.spawn(future);
        };
        let (future, abort) = abortable(future);
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        parts.add(async move {
            // One that is aborted is over as well.
            let _ = future.await;
            ended.store(true, Ordering::SeqCst);
        });
        tokio::spawn(task);
        Box::new(EngineTask { abort, over })
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = SockRef::from(&socket);
        // The system silently grants less where its limits are lower.
        let size = self.socket_buffer as usize;
        if let Err(error) = options
            .set_recv_buffer_size(size)
            .and_then(|()| options.set_send_buffer_size(size))
        {
            tracing::debug!(%error, size, "socket buffers keep the system's size");
        }
        let inner = self.inner.wrap_udp_socket(socket)?;
        self.vitals.note_socket();
        let (vitals, faults) = (self.vitals.clone(), self.faults.clone());
        let servers = self.servers.clone();
        Ok(Arc::new(Socket::new(inner, vitals, faults, servers)))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.inner.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote_addr: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        self.inner.connect_tcp(remote_addr)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(addrs) = self.servers.resolve(host) {
                return Ok(addrs);
            }
            let limit = self.resolve_timeout;
            let found = match tokio::time::timeout(limit, self.inner.resolve_host(host)).await {
                Ok(found) => found,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("its address was not found within {limit:?}"),
                )),
            };
            if let Err(error) = &found {
                let refusals = self.vitals.refusals();
                refusals.note(format!("the server {host} is not found: {error}"));
            }
            found
        })
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        // The engine's loop sleeps once each time that it has sent all it can.
        self.vitals.note_turn();
        if self.vitals.is_urgent() {
            return self.inner.yield_now();
        }
        let sleep = self.inner.sleep(self.vitals.step(duration));
        let Some(awake) = self.vitals.take_nap() else {
            return sleep;
        };
        Box::pin(Nap {
            sleep: (!awake).then_some(sleep),
            over: false,
            vitals: self.vitals.clone(),
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.inner.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.inner.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.inner.yield_now()
    }

    fn name(&self) -> &'static str {
        "pipewerks"
    }
}

/// The engine's loop, a part of a task.
struct EngineTask {
    abort: AbortHandle,
    over: Arc<AtomicBool>,
}

impl JoinHandle for EngineTask {
    /// Does nothing: the task is never held back.
    fn detach(&self) {}

    fn abort(&self) {
        self.abort.abort();
    }

    fn is_finished(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// A wait of the engine where packets go through a TURN server: none at all in the turns after something
/// has happened.
struct Nap {
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: bool,
    vitals: Arc<Vitals>,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        self.over = true;
        Poll::Ready(())
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        // Either a timer has fired, or something else came before the end of the wait.
        if self.sleep.is_some() || !self.over {
            self.vitals.stay_awake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::vitals::tests::record;
    use super::*;

    fn runtime() -> PipeRuntime {
        let vitals = Vitals::new();
        vitals.set_connecting(false);
        PipeRuntime {
            inner: TokioRuntime,
            task: parking_lot::Mutex::new(None),
            vitals,
            faults: None,
            servers: Servers::new(pipe_tls::TlsOptions::new()),
            socket_buffer: 4096,
            resolve_timeout: Duration::from_secs(1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_through_a_relay_is_followed_by_turns_without_a_wait() {
        let runtime = runtime();
        let long = Duration::from_secs(60);
        let waits = || runtime.sleep(long).now_or_never().is_none();
        let direct = record(22, 1, &[1; 40]);
        runtime.vitals.note_path(&direct);
        assert!(waits() && waits());

        // Data of channel 0x4000.
        runtime.vitals.note_path(&[0x40, 0, 0, 4, 1, 2, 3, 4]);
        assert!(waits());
        // Something has come before that wait was over.
        assert!(!waits() && !waits() && waits());
        assert!(!waits());
        // So it has in a turn that did not wait.
        drop(runtime.sleep(long));
        assert!(!waits() && !waits());
        // A timer counts as well.
        runtime.sleep(long).await;
        assert!(!waits() && !waits() && waits());

        runtime.vitals.note_path(&direct);
        assert!(waits() && waits());
    }
}
