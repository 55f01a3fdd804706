//! What a peer is told to do.

use std::collections::VecDeque;
use std::fmt::Write;

use sha2::{Digest, Sha256};
use str0m::channel::{ChannelConfig, ChannelId};

use crate::Peer;

/// How far a command is.
enum Step {
    /// It waits for what is to happen.
    Waits,
    Done(String),
}

/// A line of the input.
pub(crate) struct Command {
    id: String,
    verb: String,
    words: Vec<String>,
    is_begun: bool,
    /// The channel that it opens.
    channel: Option<ChannelId>,
    /// What it has to send.
    messages: VecDeque<Vec<u8>>,
    /// What it has sent or received.
    hash: Sha256,
    count: usize,
    text: String,
}

impl Command {
    pub(crate) fn new(line: &str) -> Self {
        let mut words = line.split(' ').map(str::to_owned);
        Self {
            id: words.next().unwrap_or_default(),
            verb: words.next().unwrap_or_default(),
            words: words.collect(),
            is_begun: false,
            channel: None,
            messages: VecDeque::new(),
            hash: Sha256::new(),
            count: 0,
            text: String::new(),
        }
    }

    /// Returns whether this is the first time that it is tried.
    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.is_begun, true)
    }

    fn number(&self, at: usize) -> Result<usize, String> {
        let word = self.words.get(at).ok_or("too few words")?;
        word.parse().map_err(|error| format!("{word}: {error}"))
    }

    fn digest(&mut self) -> String {
        hex(&self.hash.finalize_reset())
    }
}

impl Peer {
    /// Does what can be done. Returns whether something was.
    pub(crate) fn run_commands(&mut self) -> bool {
        let mut has_progress = self.echo();
        for mut command in std::mem::take(&mut self.commands) {
            match self.step(&mut command) {
                Ok(Step::Waits) => {
                    self.commands.push(command);
                    continue;
                }
                Ok(Step::Done(words)) => println!("{} ok {words}", command.id),
                Err(error) => println!("{} error {}", command.id, error.replace('\n', " ")),
            }
            has_progress = true;
        }
        has_progress
    }

    /// Sends back what has come on the channel echo.
    fn echo(&mut self) -> bool {
        let Some(echo) = self.channels.echo() else {
            return false;
        };
        let mut has_sent = false;
        while let Some(message) = self.channels.get(echo).messages.pop_front() {
            match self.write(echo, &message) {
                Ok(true) => self.echoed.push_back(message.len()),
                _ => {
                    self.channels.get(echo).messages.push_front(message);
                    break;
                }
            }
            has_sent = true;
        }
        has_sent
    }

    /// Sends a message, if there is room for it.
    fn write(&mut self, id: ChannelId, message: &[u8]) -> Result<bool, String> {
        let mut channel = self.rtc.channel(id).ok_or("the channel is not open")?;
        channel
            .write(true, message)
            .map_err(|error| error.to_string())
    }

    fn step(&mut self, command: &mut Command) -> Result<Step, String> {
        match &*command.verb {
            "signals" if self.signals.is_empty() => Ok(Step::Waits),
            "signals" => Ok(Step::Done(self.signals.remove(0).to_string())),
            "signal" => {
                let text = command.words.join(" ");
                self.signal(&text).map_err(|error| error.to_string())?;
                Ok(Step::Done(String::new()))
            }
            "ping" => self.ping(command),
            "echoed" => Ok(match self.echoed.pop_front() {
                Some(length) => Step::Done(length.to_string()),
                None => Step::Waits,
            }),
            "open" => {
                if command.begin() {
                    let config = ChannelConfig {
                        label: command.words.join(" "),
                        ..ChannelConfig::default()
                    };
                    let id = self.rtc.direct_api().create_data_channel(config);
                    self.channels.add(id);
                    command.channel = Some(id);
                }
                let id = command.channel.ok_or("no channel")?;
                let channel = self.channels.get(id);
                Ok(if channel.is_open {
                    Step::Done(channel.number.to_string())
                } else {
                    Step::Waits
                })
            }
            "accept" => Ok(match self.channels.accepted.pop_front() {
                Some(id) => {
                    let channel = self.channels.get(id);
                    Step::Done(format!("{} {}", channel.number, channel.label))
                }
                None => Step::Waits,
            }),
            "end" => {
                if command.begin() {
                    self.rtc.close().map_err(|error| error.to_string())?;
                }
                Ok(done_if(self.is_over))
            }
            "ended" => Ok(done_if(self.is_over)),
            _ => self.on_channel(command),
        }
    }

    fn ping(&mut self, command: &mut Command) -> Result<Step, String> {
        let ping = self.channels.ping().ok_or("no channel ping")?;
        if !self.channels.get(ping).is_open {
            return Ok(Step::Waits);
        }
        if command.begin() {
            let bytes = random(64);
            if !self.write(ping, &bytes)? {
                return Err("no room for a ping".to_owned());
            }
            command.text = hex(&bytes);
        }
        Ok(match self.channels.get(ping).messages.pop_front() {
            Some(back) => Step::Done(format!("{} {}", command.text, hex(&back))),
            None => Step::Waits,
        })
    }

    /// The verbs about a channel, whose number is the first word.
    fn on_channel(&mut self, command: &mut Command) -> Result<Step, String> {
        let number = command.words.first().ok_or("too few words")?;
        let id = self.channels.numbered(number);
        // The channel stays the same when another one gets its number.
        let id = *command.channel.get_or_insert(id.ok_or("no such channel")?);
        match &*command.verb {
            "echo" => {
                let bytes = command.number(1)?;
                while command.count < bytes {
                    let Some(message) = self.channels.get(id).messages.pop_front() else {
                        return Ok(Step::Waits);
                    };
                    if !self.write(id, &message)? {
                        self.channels.get(id).messages.push_front(message);
                        return Ok(Step::Waits);
                    }
                    command.count += message.len();
                }
                Ok(Step::Done(String::new()))
            }
            "send" => {
                if command.begin() {
                    let (count, size) = (command.number(1)?, command.number(2)?);
                    command.messages = (0..count).map(|_| random(size)).collect();
                }
                while let Some(message) = command.messages.pop_front() {
                    if !self.write(id, &message)? {
                        command.messages.push_front(message);
                        return Ok(Step::Waits);
                    }
                    command.hash.update(&message);
                }
                Ok(Step::Done(command.digest()))
            }
            "receive" => {
                let bytes = command.number(1)?;
                while command.count < bytes {
                    let Some(message) = self.channels.get(id).messages.pop_front() else {
                        return Ok(Step::Waits);
                    };
                    command.count += message.len();
                    command.hash.update(&message);
                }
                Ok(Step::Done(command.digest()))
            }
            "close" => {
                if command.begin() {
                    self.rtc.direct_api().close_data_channel(id);
                }
                Ok(done_if(self.channels.get(id).is_closed))
            }
            "closed" => Ok(done_if(self.channels.get(id).is_closed)),
            verb => Err(format!("no verb {verb}")),
        }
    }
}

fn done_if(is_done: bool) -> Step {
    if is_done {
        Step::Done(String::new())
    } else {
        Step::Waits
    }
}

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::fill(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes all.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
