//! The list of all attacks.

use futures::FutureExt;

use super::attack::{Attack, CONNS, Costs, SILENT};
use super::memory::{
    a_stranger_fills_windows, a_stranger_sends_beside_what_is_read, a_stranger_sends_single_bytes,
    a_stranger_sends_small_messages, a_thousand_full_windows,
    a_thousand_streams_beside_one_that_is_read, a_thousand_streams_of_single_bytes,
    a_thousand_streams_of_small_messages,
};
use super::on_wire::{
    answers_that_are_never_read, bytes_before_the_hello, candidates_without_end, colliding_numbers,
    credit_that_is_never_read, handshakes_that_stall, idle_frames, messages_about_unknown_streams,
    numbers_used_again, one_byte_credits, one_byte_frames_unread, one_byte_messages,
    output_that_is_never_read, pings_without_end, rapid_reset, rapid_reset_at_once,
    silent_handshakes, streams_beyond_the_limit, streams_whose_end_does_not_come, unread_windows,
};
use super::peer::{Attacker, MoveKind};
use super::setting::{CROWD, STRANGERS, Setting};
use super::through_traits::{
    closes_in_the_middle, dials_and_drops, holds_all_streams, one_byte_writes, opens_and_drops,
    pings_at_once, writes_and_never_reads,
};

const WIRE: &str = "A hostile peer on the wire";
const PUBLIC: &str = "A rude peer through the public traits";
const MEMORY: &str = "The memory of streams that are not read";

/// All attacks, in the order of the matrix.
pub(crate) fn all() -> Vec<Attack> {
    macro_rules! attacks {
        ($($name:ident $group:ident $on_wire:literal $conns:expr, $costs:expr, [$($need:ident)*];)*) => {
            vec![$(Attack {
                name: stringify!($name),
                group: $group,
                needs: &[$(MoveKind::$need),*],
                on_wire: $on_wire,
                conns: $conns,
                costs: $costs,
                run: |arms| $name(arms).boxed(),
            }),*]
        };
    }
    use Costs::{Little, Packets, Places, Time, Unread, Windows};
    attacks![
        rapid_reset WIRE true CONNS, Little, [Stop];
        rapid_reset_at_once WIRE true CONNS, Little, [];
        unread_windows WIRE true CONNS, Windows, [Excess];
        one_byte_frames_unread WIRE true CONNS, Windows, [];
        bytes_before_the_hello WIRE true 8, Windows, [Early Excess];
        numbers_used_again WIRE true CONNS, Little, [Number];
        silent_handshakes WIRE true SILENT, Little, [Silence];
        streams_beyond_the_limit WIRE true CONNS, Little, [Number];
        colliding_numbers WIRE true CONNS, Time, [Number];
        pings_without_end WIRE true CONNS, Little, [Ping];
        answers_that_are_never_read WIRE true CONNS, Little, [Ping];
        output_that_is_never_read WIRE true CONNS, Little, [];
        messages_about_unknown_streams WIRE true CONNS, Time, [Unknown];
        one_byte_credits WIRE true CONNS, Time, [Credit];
        one_byte_messages WIRE true CONNS, Little, [Control];
        idle_frames WIRE true CONNS, Little, [Mux];
        streams_whose_end_does_not_come WIRE true CONNS, Time, [Stop Excess];
        credit_that_is_never_read WIRE true CONNS, Little, [];
        candidates_without_end WIRE true CONNS, Packets, [Candidates];
        handshakes_that_stall WIRE true SILENT, Places, [Stall];
        opens_and_drops PUBLIC false CONNS, Little, [];
        writes_and_never_reads PUBLIC false CONNS, Windows, [];
        dials_and_drops PUBLIC false CONNS, Little, [];
        one_byte_writes PUBLIC false CONNS, Windows, [];
        pings_at_once PUBLIC false CONNS, Little, [];
        holds_all_streams PUBLIC false CONNS, Little, [];
        closes_in_the_middle PUBLIC false CONNS, Little, [];
        a_thousand_streams_of_single_bytes MEMORY true CROWD, Unread(Setting::Crowd), [];
        a_thousand_streams_of_small_messages MEMORY true CROWD, Unread(Setting::Crowd), [];
        a_thousand_full_windows MEMORY true CROWD, Unread(Setting::Crowd), [];
        a_thousand_streams_beside_one_that_is_read MEMORY false CROWD, Unread(Setting::Crowd), [];
        a_stranger_sends_single_bytes MEMORY true STRANGERS, Unread(Setting::Strangers), [];
        a_stranger_sends_small_messages MEMORY true STRANGERS, Unread(Setting::Strangers), [];
        a_stranger_fills_windows MEMORY true STRANGERS, Unread(Setting::Strangers), [];
        a_stranger_sends_beside_what_is_read MEMORY false STRANGERS, Unread(Setting::Strangers), [];
    ]
}

/// Whether an attack can be made with these arms, or why not.
pub(crate) fn lacks(attack: &Attack, attacker: Option<&dyn Attacker>) -> Option<String> {
    if !attack.on_wire {
        return None;
    }
    let Some(attacker) = attacker else {
        return Some("there is no attacker for its wire".to_owned());
    };
    let lack = attack.needs.iter().find_map(|&need| attacker.lacks(need));
    lack.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all.len(), "two attacks have one name");
    }
}
