//! The three sides of an attack, each with a runtime of its own, in processes of their own where the
//! transport can leave one.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pipe_core::{Addr, BoxListener, Listener, Transport};
use tokio::runtime::{Builder, Runtime};

use super::attack::{Arms, Attack, Tally};
use super::catalog;
use super::innocent::{Innocent, dial_pace};
use super::setting::{Setting, config};
use super::target::Target;
use super::victim::{Counters, Sample, serve};

/// The environment variable that makes this program one side: `victim TARGET SETTING` or `attacker TARGET ATTACK WAY ADDR`,
/// where the way is `hard` or `easy`.
pub(crate) const ROLE: &str = "PIPE_HOSTILE_ROLE";

/// How long a side may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

fn runtime(workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
}

/// The side that is attacked: a listener with two workers, whose handlers echo and hold.
pub(crate) enum Victim {
    Here {
        runtime: Runtime,
        counters: Arc<Counters>,
        addr: Addr,
    },
    Child {
        child: Side,
        addr: Addr,
    },
}

impl Victim {
    /// Starts in this process.
    pub(crate) fn here(target: &Target, setting: Setting) -> Result<Self, String> {
        let runtime = runtime(2).map_err(|e| e.to_string())?;
        let counters = Arc::new(Counters::default());
        let addr = runtime.block_on(async {
            let transport = target.transport(setting.config())?;
            let listener = BoxListener::new(transport.listen(&target.listen_addr()).await?);
            let addr = listener.local_addr();
            tokio::spawn(serve(listener, counters.clone()));
            Ok::<_, pipe_core::Error>(addr)
        });
        let addr = addr.map_err(|e| format!("listening: {e}"))?;
        counters.watch();
        Ok(Self::Here {
            runtime,
            counters,
            addr,
        })
    }

    /// Starts in a process of its own.
    pub(crate) fn child(target: &Target, setting: Setting) -> Result<Self, String> {
        let role = format!("victim {} {}", target.name, setting.name());
        let mut child = Side::start(&role, false)?;
        let line = child.ask("addr")?;
        let addr = line.parse().map_err(|e| format!("{line:?}: {e}"))?;
        Ok(Self::Child { child, addr })
    }

    pub(crate) fn addr(&self) -> &Addr {
        match self {
            Self::Here { addr, .. } | Self::Child { addr, .. } => addr,
        }
    }

    pub(crate) fn mark(&mut self) -> Result<(), String> {
        match self {
            Self::Here { counters, .. } => counters.mark(),
            Self::Child { child, .. } => {
                child.ask("mark")?;
            }
        }
        Ok(())
    }

    pub(crate) fn sample(&mut self) -> Result<Sample, String> {
        match self {
            Self::Here {
                runtime, counters, ..
            } => Ok(counters.sample(runtime.handle())),
            Self::Child { child, .. } => child.ask("sample")?.parse(),
        }
    }

    /// Stops it. An error says that something in its process panicked.
    pub(crate) fn stop(self) -> Result<(), String> {
        match self {
            Self::Here { runtime, .. } => {
                runtime.shutdown_timeout(Duration::from_secs(2));
                Ok(())
            }
            Self::Child { child, .. } => child.stop(),
        }
    }
}

/// The side that attacks, with one worker.
pub(crate) enum Assault {
    Here(Runtime, Arc<Arms>),
    Child(Side),
}

impl Assault {
    /// Starts it, in the easy way if it is to be compared with that.
    pub(crate) fn start(
        target: &Target,
        attack: &Attack,
        easy: bool,
        addr: &Addr,
    ) -> Result<Self, String> {
        if target.in_process {
            let runtime = runtime(1).map_err(|e| e.to_string())?;
            let arms = arms(&runtime, target, attack, easy, addr.clone())?;
            runtime.spawn((attack.run)(arms.clone()));
            return Ok(Self::Here(runtime, arms));
        }
        let role = format!(
            "attacker {} {} {} {addr}",
            target.name,
            attack.name,
            way(easy)
        );
        Side::start(&role, true).map(Self::Child)
    }

    /// Returns what it has done so far.
    pub(crate) fn made(&mut self) -> Result<Made, String> {
        match self {
            Self::Here(_, arms) => Ok(made(&arms.tally)),
            Self::Child(child) => {
                let line = child.ask("tally")?;
                let numbers = line.split(' ').map_while(|word| word.parse().ok());
                match numbers.collect::<Vec<_>>()[..] {
                    [conns, batches, packets] => Ok(Made {
                        conns,
                        batches,
                        packets,
                    }),
                    _ => Err(format!("no tally: {line:?}")),
                }
            }
        }
    }

    /// Stops it.
    pub(crate) fn stop(self) -> Result<(), String> {
        match self {
            Self::Here(runtime, _) => {
                runtime.shutdown_timeout(Duration::from_secs(2));
                Ok(())
            }
            Self::Child(child) => child.stop(),
        }
    }
}

/// The effects of an attack.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) conns: u64,
    pub(crate) batches: u64,
    /// Packets that came to addresses which it has named.
    pub(crate) packets: u64,
}

fn made(tally: &Tally) -> Made {
    Made {
        conns: tally.conns.load(Ordering::Relaxed),
        batches: tally.batches.load(Ordering::Relaxed),
        packets: tally.packets.load(Ordering::Relaxed),
    }
}

fn way(easy: bool) -> &'static str {
    if easy { "easy" } else { "hard" }
}

fn arms(
    runtime: &Runtime,
    target: &Target,
    attack: &Attack,
    easy: bool,
    addr: Addr,
) -> Result<Arc<Arms>, String> {
    let _inside = runtime.enter();
    let config = attack.costs.setting().config();
    Ok(Arc::new(Arms {
        addr,
        max_streams: config.max_streams.into(),
        window: config.connection_window as usize,
        stream_window: config.stream_window as usize,
        transport: Arc::new(target.transport(config).map_err(|e| e.to_string())?),
        attacker: target.attacker.clone(),
        easy,
        tally: Tally::default(),
    }))
}

/// The polite peers, with one worker.
pub(crate) struct Bystanders {
    pub(crate) innocent: Innocent,
    runtime: Runtime,
    pub(crate) transport: Arc<pipe_core::BoxTransport>,
}

impl Bystanders {
    /// Starts an echo and dials, so many a second at most if `pace` says so.
    pub(crate) fn start(
        target: &Target,
        addr: &Addr,
        pace: Option<Duration>,
    ) -> Result<Self, String> {
        let runtime = runtime(1).map_err(|e| e.to_string())?;
        let inside = runtime.enter();
        let transport = target.transport(config()).map_err(|e| e.to_string())?;
        drop(inside);
        let (innocent, transport) = (Innocent::default(), Arc::new(transport));
        runtime.spawn(innocent.clone().echo(transport.clone(), addr.clone()));
        let pace = pace.unwrap_or(dial_pace());
        runtime.spawn(innocent.clone().dial(transport.clone(), addr.clone(), pace));
        Ok(Self {
            innocent,
            runtime,
            transport,
        })
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    pub(crate) fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(2));
    }
}

/// This program once more, as one side. It answers a line with a line, and ends with its input.
pub(crate) struct Side {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Side {
    fn start(role: &str, nice: bool) -> Result<Self, String> {
        let program = env::current_exe().map_err(|e| e.to_string())?;
        let spawn = |mut command: Command| {
            command
                .env(ROLE, role)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        // An attacker has a machine of its own, so it takes what the others leave of this one.
        let mut niced = Command::new("nice");
        niced.args(["-n", "19"]).arg(&program);
        let child = if nice {
            spawn(niced).or_else(|_| spawn(Command::new(&program)))
        } else {
            spawn(Command::new(&program))
        };
        let mut child = child.map_err(|e| format!("no process for {role:?}: {e}"))?;
        let output = child.stdout.take();
        let errors = child.stderr.take();
        let (to_lines, lines) = mpsc::channel();
        thread::spawn(move || read_lines(output, &to_lines));
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(errors) = errors {
                let _ = errors.take(1 << 20).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            input: child.stdin.take(),
            child,
            lines,
            errors: Some(errors),
        })
    }

    fn ask(&mut self, question: &str) -> Result<String, String> {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{question}").and_then(|()| input.flush());
        }
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Ok(line),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(format!("no answer to {question:?} in {LIMIT:?}"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let errors = self.end().unwrap_or_default();
                Err(format!("a side ended early: {errors}"))
            }
        }
    }

    fn stop(mut self) -> Result<(), String> {
        let errors = self.end()?;
        if errors.contains("panicked at") {
            return Err(format!("a panic: {errors}"));
        }
        Ok(())
    }

    /// Ends the process, and returns what it said of errors.
    fn end(&mut self) -> Result<String, String> {
        drop(self.input.take());
        let status = self.child.wait().map_err(|e| e.to_string())?;
        let errors = self.errors.take().and_then(|errors| errors.join().ok());
        let errors = errors.unwrap_or_default();
        if status.success() {
            Ok(errors)
        } else {
            Err(format!("a side ended with {status}: {errors}"))
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(output: Option<ChildStdout>, to_lines: &mpsc::Sender<String>) {
    let Some(output) = output else { return };
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if to_lines.send(line).is_err() {
            return;
        }
    }
}

/// Plays the side that the environment asks for, if it does.
pub(crate) fn play(targets: &[Target]) -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    let played = match role.split(' ').collect::<Vec<_>>()[..] {
        ["victim", name, setting] => {
            find(targets, name).and_then(|target| play_victim(target, Setting::by_name(setting)?))
        }
        ["attacker", name, attack, how, addr] => find(targets, name)
            .and_then(|target| play_attacker(target, attack, how == way(true), addr)),
        _ => Err(format!("{ROLE} is {role:?}")),
    };
    Some(match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    })
}

fn find<'a>(targets: &'a [Target], name: &str) -> Result<&'a Target, String> {
    let found = targets.iter().find(|target| target.name == name);
    found.ok_or_else(|| format!("there is no target {name}"))
}

/// Answers each line of the input until it ends.
fn answer(mut answers: impl FnMut(&str) -> Result<String, String>) -> Result<(), String> {
    for line in io::stdin().lines().map_while(Result::ok) {
        let answer = answers(&line)?;
        let mut output = io::stdout().lock();
        writeln!(output, "{answer}")
            .and_then(|()| output.flush())
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn play_victim(target: &Target, setting: Setting) -> Result<(), String> {
    let mut victim = Victim::here(target, setting)?;
    answer(|question| match question {
        "addr" => Ok(victim.addr().to_string()),
        "mark" => victim.mark().map(|()| String::new()),
        _ => victim.sample().map(Sample::to_line),
    })
}

fn play_attacker(target: &Target, name: &str, easy: bool, addr: &str) -> Result<(), String> {
    let attacks = catalog::all();
    let attack = attacks.iter().find(|attack| attack.name == name);
    let attack = attack.ok_or_else(|| format!("there is no attack {name}"))?;
    let addr: Addr = addr.parse().map_err(|e| format!("{addr}: {e}"))?;
    let runtime = runtime(1).map_err(|e| e.to_string())?;
    let arms = arms(&runtime, target, attack, easy, addr)?;
    runtime.spawn((attack.run)(arms.clone()));
    let answered = answer(|_| {
        let made = made(&arms.tally);
        Ok(format!("{} {} {}", made.conns, made.batches, made.packets))
    });
    // It goes as it is, with all its connections.
    runtime.shutdown_background();
    answered
}
