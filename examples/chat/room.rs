//! [`Room`]: who is there, and what each has still to hear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pipewerks::{BoxConn, Conn};
use tokio::sync::mpsc::{self, error::TrySendError};

/// How many lines may wait for a guest beyond those in the window of the stream.
const QUEUE: usize = 64;

/// The codes that a guest's connection is closed with.
pub(crate) mod code {
    /// The guest did not keep up with what was said.
    pub(crate) const TOO_SLOW: u32 = 1;
    /// There is a guest of this name, or it is no name.
    pub(crate) const NAME_REFUSED: u32 = 2;
    /// What came is no line of text.
    pub(crate) const NOT_TEXT: u32 = 3;
}

/// A room. Clones stand for the same one.
#[derive(Clone, Default)]
pub(crate) struct Room(Arc<Mutex<BTreeMap<String, Member>>>);

struct Member {
    conn: BoxConn,
    /// Dropping it ends the lines that the guest hears.
    lines: mpsc::Sender<Arc<str>>,
}

/// The place of a guest in a room. Dropping it is leaving.
pub(crate) struct Seat {
    room: Room,
    name: String,
    /// A sender that does not hold the queue open: it tells this guest from another of the same name.
    lines: mpsc::WeakSender<Arc<str>>,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets a guest in and tells the others. Gives a seat and what the guest has to hear, or why it cannot
    /// come in.
    pub(crate) fn join(
        &self,
        name: &str,
        conn: &BoxConn,
    ) -> Result<(Seat, mpsc::Receiver<Arc<str>>), String> {
        if name.trim() != name || !(1..=32).contains(&name.chars().count()) {
            return Err(format!("a name has 1 to 32 characters, unlike {name:?}"));
        }
        let mut members = self.members();
        if members.contains_key(name) {
            return Err(format!("there is a guest named {name} already"));
        }
        let (lines, queue) = mpsc::channel(QUEUE);
        let others = members
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let welcome = match &*others {
            "" => "* nobody else is here".to_owned(),
            others => format!("* here are {others}"),
        };
        let transport = conn.remote_addr().scheme().to_owned();
        tell(
            &mut members,
            name,
            &format!("* {name} joined over {transport}"),
        );
        // The queue is empty, so there is room.
        let _ = lines.try_send(welcome.into());
        let seat = Seat {
            room: self.clone(),
            name: name.to_owned(),
            lines: lines.downgrade(),
        };
        let conn = conn.clone();
        members.insert(name.to_owned(), Member { conn, lines });
        Ok((seat, queue))
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Tells the others what this guest says.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{}: {text}", self.name);
        tell(&mut self.room.members(), &self.name, &line);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut members = self.room.members();
        // Whoever has been sent away has left already, and another may have the name by now.
        let (Some(member), Some(lines)) = (members.get(&self.name), self.lines.upgrade()) else {
            return;
        };
        if member.lines.same_channel(&lines) {
            members.remove(&self.name);
            tell(&mut members, &self.name, &format!("* {} left", self.name));
        }
    }
}

/// Queues a line for everybody but its author, and sends those away whose queues are full.
fn tell(members: &mut BTreeMap<String, Member>, author: &str, line: &str) {
    let mut news: Vec<(Option<&str>, Arc<str>)> = vec![(Some(author), line.into())];
    while let Some((author, line)) = news.pop() {
        members.retain(|name, member| {
            if author == Some(name) {
                return true;
            }
            match member.lines.try_send(line.clone()) {
                Err(TrySendError::Full(_)) => {
                    let why = format!("you did not keep up: {QUEUE} lines wait for you");
                    member.conn.close(code::TOO_SLOW, &why);
                    news.push((None, format!("* {name} was too slow").into()));
                    false
                }
                // A queue that nobody reads is that of a guest who is just leaving.
                Ok(()) | Err(TrySendError::Closed(_)) => true,
            }
        });
    }
}
