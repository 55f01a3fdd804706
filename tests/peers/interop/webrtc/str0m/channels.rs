//! The channels of a connection, whose messages are taken when they are asked for.

use std::collections::{HashMap, VecDeque};

use str0m::channel::{ChannelData, ChannelId};

#[derive(Default)]
pub(crate) struct Channels {
    all: HashMap<ChannelId, Channel>,
    /// Those that this side opens.
    ours: Vec<ChannelId>,
    /// The one that has each id, or had it last.
    numbers: HashMap<u16, ChannelId>,
    /// Those that the other side has opened, and that were not asked for.
    pub(crate) accepted: VecDeque<ChannelId>,
    ping: Option<ChannelId>,
    echo: Option<ChannelId>,
}

#[derive(Default)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    pub(crate) label: String,
    pub(crate) is_open: bool,
    pub(crate) is_closed: bool,
    pub(crate) messages: VecDeque<Vec<u8>>,
}

impl Channels {
    /// Sets the channels ping and echo.
    pub(crate) fn fix(&mut self, ids: [ChannelId; 2]) {
        [self.ping, self.echo] = ids.map(Some);
        ids.into_iter().for_each(|id| self.add(id));
    }

    /// Adds a channel that this side opens.
    pub(crate) fn add(&mut self, id: ChannelId) {
        self.ours.push(id);
        self.all.insert(id, Channel::default());
    }

    pub(crate) fn ping(&self) -> Option<ChannelId> {
        self.ping
    }

    pub(crate) fn echo(&self) -> Option<ChannelId> {
        self.echo
    }

    pub(crate) fn get(&mut self, id: ChannelId) -> &mut Channel {
        self.all.entry(id).or_default()
    }

    /// Returns the channel of this number.
    pub(crate) fn numbered(&self, number: &str) -> Option<ChannelId> {
        self.numbers.get(&number.parse().ok()?).copied()
    }

    pub(crate) fn open(&mut self, id: ChannelId, number: u16, label: String) {
        if !self.ours.contains(&id) {
            self.accepted.push_back(id);
        }
        self.numbers.insert(number, id);
        let channel = self.get(id);
        channel.is_open = true;
        (channel.number, channel.label) = (number, label);
    }

    pub(crate) fn arrive(&mut self, message: ChannelData) {
        self.get(message.id).messages.push_back(message.data);
    }

    pub(crate) fn close(&mut self, id: ChannelId) {
        self.get(id).is_closed = true;
    }
}
