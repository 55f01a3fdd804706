/// The parameters of a channel to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelOptions {
    pub(crate) protocol: String,
    /// The id that both sides agreed on beforehand; with one, nothing is sent to open the channel.
    pub(crate) negotiated: Option<u16>,
    pub(crate) ordered: bool,
}

/// The parameters of a data channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Its name, which need not be unique.
    pub label: String,
    /// Name of the channel's protocol.
    pub protocol: String,
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
}

impl ChannelInfo {
    pub(crate) fn new(label: &str, protocol: &str, ordered: bool) -> Self {
        Self {
            label: label.to_owned(),
            protocol: protocol.to_owned(),
            ordered,
        }
    }
}
