use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pipe_core::{Addr, BoxTransport, Conn, Transport};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::catalog;
use super::environment::number;
use super::setting::Setting;
use super::sides::{Assault, Bystanders, Victim};
use super::target::Target;
use super::victim::{ECHO, HOLD, SLOW, Sample};

/// The environment variable that asks for a soak: `TARGET SECONDS`.
const SOAK: &str = "PIPE_HOSTILE_SOAK";

/// The environment variable for the seconds between two lines of the curve.
const EVERY: &str = "PIPE_HOSTILE_EVERY";

/// How long each attack goes on.
const ATTACK: Duration = Duration::from_secs(5);

/// How far the median of the last quarter may stand above that of the second.
const GROWTH: f64 = 1.10;
const SOME_BYTES: usize = 4 << 20;
const SOME_DESCRIPTORS: usize = 16;

/// Runs the soak that the environment asks for, if it does.
pub(crate) fn run(targets: &[Target]) -> Option<ExitCode> {
    let asked = env::var(SOAK).ok()?;
    let soaked = match asked.split(' ').collect::<Vec<_>>()[..] {
        [name, seconds] => match (targets.iter().find(|t| t.name == name), seconds.parse()) {
            (Some(target), Ok(seconds)) => soak(target, Duration::from_secs(seconds)),
            _ => Err(format!("{SOAK} is {asked:?}")),
        },
        _ => Err(format!("{SOAK} is {asked:?}")),
    };
    Some(match soaked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    })
}

/// Runs a slow reader, a stalled reader, ten connections a second and a hostile peer side by side, and returns
/// whether memory and descriptors stayed flat.
fn soak(target: &Target, time: Duration) -> Result<bool, String> {
    let mut victim = if target.in_process {
        Victim::here(target, Setting::Usual)?
    } else {
        Victim::child(target, Setting::Usual)?
    };
    let addr = victim.addr().clone();
    let bystanders = Bystanders::start(target, &addr, Some(Duration::from_millis(100)))?;
    for (handler, floods) in [(SLOW, false), (HOLD, false), (ECHO, true)] {
        let transport = bystanders.transport.clone();
        bystanders.spawn(write_for_ever(transport, addr.clone(), handler, floods));
    }
    let attacks: Vec<_> = catalog::all()
        .into_iter()
        .filter(|attack| attack.costs.setting() == Setting::Usual && target.skips(attack).is_none())
        .collect();
    // Each quarter of the curve has a few points.
    let default = (time.as_secs() / 12).clamp(1, 10) as u32;
    let every = Duration::from_secs(number(EVERY, default).into());
    let start = victim.sample()?;
    let started = Instant::now();
    let mut curve = Vec::new();
    let mut next = every;
    println!(
        "seconds, attack, heap MiB, resident MiB, descriptors, handlers, connections, echo p99 ms, dial p99 ms"
    );
    'attacks: for attack in attacks.iter().cycle() {
        let assault = Assault::start(target, attack, false, &addr)?;
        let until = started.elapsed() + ATTACK;
        while started.elapsed() < until {
            thread::sleep(Duration::from_millis(100));
            if started.elapsed() < next {
                continue;
            }
            next += every;
            let sample = victim.sample()?;
            print_line(started.elapsed(), attack.name, &sample, &bystanders);
            curve.push(sample);
            if started.elapsed() >= time {
                assault.stop()?;
                break 'attacks;
            }
        }
        assault.stop()?;
    }
    bystanders.stop();
    if let Some(end) = curve.last() {
        println!(
            "heap: {:.1} MiB at the start, {:.1} MiB at the end; resident: {:.1} MiB, {:.1} MiB; descriptors: {}, {}",
            mib(start.heap),
            mib(end.heap),
            mib(start.resident),
            mib(end.resident),
            start.descriptors,
            end.descriptors
        );
    }
    let flat = verdict(&curve);
    victim.stop()?;
    Ok(flat)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print_line(at: Duration, attack: &str, sample: &Sample, bystanders: &Bystanders) {
    let seen = bystanders.innocent.take();
    println!(
        "{}, {attack}, {:.1}, {:.1}, {}, {}, {}, {:.1}, {:.1}",
        at.as_secs(),
        mib(sample.heap),
        mib(sample.resident),
        sample.descriptors,
        sample.handlers,
        sample.conns,
        seen.echoes.percentile(99).as_secs_f64() * 1e3,
        seen.dials.percentile(99).as_secs_f64() * 1e3,
    );
    for failure in seen.failures {
        println!("    {failure}");
    }
}

/// Writes to a handler without reading, on a connection that is made again if it ends.
async fn write_for_ever(transport: Arc<BoxTransport>, addr: Addr, handler: u8, pauses: bool) {
    let bytes = vec![1; 8 * 1024];
    loop {
        let write = async {
            let conn = transport.dial(&addr).await?;
            let mut stream = conn.open_stream().await?;
            stream.write_all(&[handler]).await?;
            loop {
                stream.write_all(&bytes).await?;
                if pauses {
                    sleep(Duration::from_millis(2)).await;
                }
            }
        };
        let ended: Result<(), pipe_core::Error> = write.await;
        drop(ended);
        sleep(Duration::from_millis(100)).await;
    }
}

/// What is compared: its name, its figure, and by how much that may grow beside a share of itself.
type Measure = (&'static str, fn(&Sample) -> usize, usize);

/// Compares the second quarter with the last, and says so.
fn verdict(curve: &[Sample]) -> bool {
    let quarter = curve.len() / 4;
    let median = |samples: &[Sample], of: fn(&Sample) -> usize| {
        let mut values: Vec<usize> = samples.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let measures: [Measure; 3] = [
        ("heap", |s| s.heap, SOME_BYTES),
        ("resident", |s| s.resident, 2 * SOME_BYTES),
        ("descriptors", |s| s.descriptors, SOME_DESCRIPTORS),
    ];
    let mut flat = true;
    for (name, of, some) in measures {
        let early = median(&curve[quarter..2 * quarter], of);
        let late = median(&curve[curve.len() - quarter..], of);
        let limit = (early as f64 * GROWTH) as usize + some;
        let verdict = if late <= limit { "flat" } else { "NOT FLAT" };
        println!("{name}: {early} in the second quarter, {late} in the last: {verdict}");
        flat &= late <= limit;
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(heap: impl Fn(usize) -> usize) -> Vec<Sample> {
        let sample = |at| Sample {
            heap: heap(at),
            ..Sample::default()
        };
        (0..100).map(sample).collect()
    }

    #[test]
    fn a_curve_that_rises_is_not_flat() {
        assert!(verdict(&curve(|_| 50 << 20)));
        assert!(verdict(&curve(|at| (50 << 20) + (at % 7) * 4096)));
        assert!(!verdict(&curve(|at| (50 << 20) + at * (1 << 20))));
    }
}
