//! pion, the WebRTC of Go: both ends in a process of its own, which measures itself. `ci/install-peers`
//! builds the program, whose sources are in `pipe-bench/pion`.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::conns::Connect;
use crate::measure::{Calls, LoadedMessages, Messages, Transfers};
use crate::{Flavor, Goal, Scenario};

/// The name of the contender.
const NAME: &str = "pion";

/// How many bytes may be on their way, in all streams of a transfer together: as many as the association's
/// window takes, beyond which pion is at times ten times slower. Fewer are slower as well.
const QUEUE: usize = 1024 * 1024;
/// The same beside messages, for which fewer are the faster.
const QUEUE_BESIDE: usize = 256 * 1024;
/// The same where datagrams are lost: the more there are on their way, the more often a timer of a second
/// has to see to it.
const QUEUE_LOSSY: usize = 128 * 1024;

/// What the program is asked to measure. It answers with one value.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
pub(super) enum Request {
    /// The median time to connect with a stream, and get a byte to and fro on it, in milliseconds.
    Connect { times: usize },
    /// The mean round trip of a message of 64 bytes, in microseconds.
    Messages { times: u32 },
    /// The same beside a stream that carries as much as it can.
    LoadedMessages {
        times: u32,
        write_len: usize,
        queue: usize,
    },
    /// What streams carry together, in megabytes a second, where so many of a thousand datagrams are lost.
    Transfer {
        streams: usize,
        bytes: u64,
        write_len: usize,
        queue: usize,
        loss: u16,
    },
    /// How many streams a second are opened, used for 1 KiB to and fro, and ended.
    Calls { times: usize, streams: usize },
}

impl Request {
    /// The same where datagrams are lost: so many of a thousand.
    pub(super) fn with_loss(mut self, of_thousand: u16) -> Self {
        if let Self::Transfer {
            streams,
            queue,
            loss,
            ..
        } = &mut self
        {
            *queue = QUEUE_LOSSY / *streams;
            *loss = of_thousand;
        }
        self
    }
}

impl From<Connect> for Request {
    fn from(connect: Connect) -> Self {
        Self::Connect {
            times: connect.times,
        }
    }
}

impl From<Messages> for Request {
    fn from(messages: Messages) -> Self {
        Self::Messages {
            times: messages.round_trips,
        }
    }
}

impl From<LoadedMessages> for Request {
    fn from(messages: LoadedMessages) -> Self {
        Self::LoadedMessages {
            times: messages.round_trips,
            write_len: 64 * 1024,
            queue: QUEUE_BESIDE,
        }
    }
}

impl From<Transfers> for Request {
    fn from(transfers: Transfers) -> Self {
        Self::Transfer {
            streams: transfers.streams,
            bytes: transfers.bytes,
            write_len: transfers.write_len,
            queue: QUEUE / transfers.streams,
            loss: 0,
        }
    }
}

impl From<Calls> for Request {
    fn from(calls: Calls) -> Self {
        Self::Calls {
            times: calls.streams,
            streams: calls.at_once,
        }
    }
}

/// Adds pion to a scenario, if its program is there.
pub(super) fn join(scenario: Scenario, request: impl Into<Request>) -> Scenario {
    let (Ok(program), request) = (program(), request.into()) else {
        return scenario;
    };
    let flavor = scenario.flavor();
    scenario.contender(NAME, move || measure(program.clone(), flavor, request))
}

/// The same, where ours has to be no slower.
pub(super) fn join_behind(mut scenario: Scenario, request: impl Into<Request>) -> Scenario {
    for figure in &mut scenario.figures {
        figure.goals.push(Goal::AheadOf(NAME.to_owned()));
    }
    join(scenario, request)
}

/// Where the program is, or why it is not there.
pub(super) fn program() -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = |folder: &Path| {
        let name = format!("peers/bench/{NAME}{}", std::env::consts::EXE_SUFFIX);
        Some(folder.join(name)).filter(|program| program.is_file())
    };
    here.ancestors().find_map(beside).ok_or_else(|| {
        let why = format!("{NAME} is left out: `ci/install-peers bench` builds its program");
        io::Error::new(io::ErrorKind::NotFound, why)
    })
}

/// Lets the program measure, on as many threads as this flavor has.
async fn measure(program: PathBuf, flavor: Flavor, request: Request) -> io::Result<Vec<f64>> {
    let threads = match flavor {
        Flavor::Multi => "2",
        Flavor::Current => "1",
    };
    let mut child = Command::new(program)
        .env("GOMAXPROCS", threads)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let _ended = Ended(child);
    let (Some(input), Some(output)) = (input, output) else {
        return Err(io::Error::other("a program without its pipes"));
    };
    let answer = tokio::task::spawn_blocking(move || ask(input, output, request));
    Ok(vec![answer.await??])
}

/// A process that is ended when this is dropped, which also fails the requests that wait for its
/// answers.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Value(f64),
    Error(String),
}

/// Asks in a line of JSON, and reads the answer in another.
fn ask(mut input: impl Write, output: impl io::Read, request: Request) -> io::Result<f64> {
    let question = serde_json::to_string(&request)? + "\n";
    input.write_all(question.as_bytes())?;
    input.flush()?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.is_empty() {
        let why = format!("{NAME} ended without an answer");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
    }
    match serde_json::from_str(&line)? {
        Answer::Value(value) => Ok(value),
        Answer::Error(why) => Err(io::Error::other(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_lines_of_json() {
        let transfer = Request::from(Transfers {
            streams: 8,
            bytes: 4096,
            write_len: 1024,
        });
        let mut asked = Vec::new();
        let answer = b"{\"value\":12.5}\n";
        let value = ask(&mut asked, &answer[..], transfer.with_loss(10)).unwrap();
        assert_eq!(value, 12.5);
        let expected = format!(
            "{{\"measure\":\"transfer\",\"streams\":8,\"bytes\":4096,\"write_len\":1024,\
             \"queue\":{},\"loss\":10}}\n",
            QUEUE_LOSSY / 8
        );
        assert_eq!(String::from_utf8(asked).unwrap(), expected);
    }

    #[test]
    fn what_pion_cannot_do_is_its_error() {
        let request = Request::Messages { times: 1 };
        let failed = ask(io::sink(), &b"{\"error\":\"no way\"}\n"[..], request);
        assert_eq!(failed.unwrap_err().to_string(), "no way");
        let ended = ask(io::sink(), io::empty(), request).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn it_does_the_work_where_it_is_installed() {
        let program = match program() {
            Ok(program) => program,
            Err(why) => {
                let required = std::env::var("PIPE_REQUIRE_PEERS").is_ok_and(|value| value == "1");
                assert!(!required, "{why}");
                return;
            }
        };
        let transfer = Request::from(Transfers {
            streams: 3,
            bytes: 3 << 20,
            write_len: 64 * 1024,
        });
        for request in [
            Request::Connect { times: 2 },
            Request::Messages { times: 10 },
            LoadedMessages { round_trips: 10 }.into(),
            transfer,
            transfer.with_loss(1),
            Request::Calls {
                times: 20,
                streams: 1,
            },
        ] {
            let measured = measure(program.clone(), Flavor::Multi, request).await;
            let values = measured.unwrap_or_else(|error| panic!("{request:?}: {error}"));
            assert!(values[0] > 0.0, "{request:?}: {values:?}");
        }
        // No message is so large.
        let too_large = Request::Transfer {
            streams: 1,
            bytes: 1 << 20,
            write_len: 1 << 20,
            queue: QUEUE,
            loss: 0,
        };
        let refused = measure(program, Flavor::Multi, too_large).await;
        assert!(refused.is_err(), "{refused:?}");
    }
}
