use crate::measure::{
    Calls, LOADED_ROUND_TRIPS, LoadedMessages, Measure, Messages, ROUND_TRIPS, Transfers, rate,
    round_trip_time, streams_per_second,
};
use crate::{Flavor, Scenario};

/// The size of large writes, in bytes.
const LARGE: usize = 64 * 1024;

/// Those who are measured in turn.
pub(crate) trait Contenders {
    /// Enters them into a scenario.
    fn enter(scenario: Scenario, measure: impl Measure) -> Scenario;
}

/// How much is done in a scenario.
pub(crate) struct Amounts {
    /// Bytes of a whole transfer.
    pub(crate) bytes: u64,
    /// How many streams are opened altogether, one after another and many at once: enough for what a connection does at
    /// its start not to count.
    pub(crate) streams: usize,
    pub(crate) streams_at_once: usize,
}

/// The scenarios that every transport is measured in, but for what they do with connections.
pub(crate) fn cells<C: Contenders>(flavor: Flavor, amounts: &Amounts) -> Vec<Scenario> {
    let scenario = |name: &str, figure| Scenario::new(name, flavor, vec![figure]);
    let transfers = |streams| Transfers {
        streams,
        bytes: amounts.bytes,
        write_len: LARGE,
    };
    let calls = |at_once, streams| Calls { at_once, streams };
    let loaded = "64 B messages beside a saturated stream";
    let one = "1 KiB echo streams, one after another";
    let many = "1 KiB echo streams, 100 at once";
    vec![
        C::enter(scenario("64 KiB writes, 1 stream", rate()), transfers(1)),
        C::enter(scenario("64 KiB writes, 8 streams", rate()), transfers(8)),
        C::enter(
            scenario("64 B messages", round_trip_time()),
            Messages {
                round_trips: ROUND_TRIPS,
            },
        ),
        C::enter(
            scenario(loaded, round_trip_time()),
            LoadedMessages {
                round_trips: LOADED_ROUND_TRIPS,
            },
        ),
        C::enter(
            scenario(one, streams_per_second()),
            calls(1, amounts.streams),
        ),
        C::enter(
            scenario(many, streams_per_second()),
            calls(100, amounts.streams_at_once),
        ),
    ]
}
