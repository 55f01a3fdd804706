use pipe_sctp::Message;

/// Approximate cost of a message that waits besides its bytes.
const HELD_COST: usize = 128;

/// Messages that wait until their stream is free.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: Vec<Message>,
    cost: usize,
}

impl Held {
    /// Keeps a message. Returns whether it is: its cost and that of those before is `limit` at most.
    pub(super) fn push(&mut self, message: Message, limit: usize) -> bool {
        self.cost += message.payload.len() + HELD_COST;
        let fits = self.cost <= limit;
        if fits {
            self.messages.push(message);
        }
        fits
    }

    /// Takes all messages.
    pub(super) fn take(&mut self) -> Vec<Message> {
        self.cost = 0;
        std::mem::take(&mut self.messages)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
