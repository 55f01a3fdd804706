//! The faults, and the cases that have to notice them.

use std::time::Duration;

use pipe_core::{Config, GrowthBudget, OnDisconnect};

/// A fault with the cases that have to fail because of it.
pub(crate) struct Caught {
    pub(crate) fault: Fault,
    pub(crate) name: &'static str,
    /// The part of the contract that it breaks.
    pub(crate) group: &'static str,
    /// The names of the cases.
    pub(crate) by: &'static [&'static str],
}

macro_rules! faults {
    ($($group:ident {$(
        #[doc = $doc:literal]
        $name:ident: $($case:ident)+;
    )+})+) => {
        /// One way to break the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            /// None: the wrapper has to be transparent.
            None,
            /// None, but connections begin with a handshake, in which peers can stall.
            Handshakes,
            $($(#[doc = $doc] $name,)+)+
        }

        pub(crate) const FAULTS: &[Caught] = &[$($(
            Caught {
                fault: Fault::$name,
                name: stringify!($name),
                group: stringify!($group),
                by: &[$(stringify!($case)),+],
            },
        )+)+];
    };
}

faults! {
    lifecycle {
        /// The state is `Disconnected` until the peer was heard for the first time.
        StateBeginsDisconnected: a_dial_connects_both_sides;
        /// `state` gives a receiver that nobody ever writes to.
        StateNeverChanges: a_cut_link_is_noticed_and_given_up;
        /// `local_addr` of a listener is what was asked for, without the name or port that was chosen.
        ListenerEchoesItsAddr: a_listener_tells_an_address_that_can_be_dialed;
        /// `remote_addr` is the local address again.
        RemoteAddrIsLocal: the_addresses_of_the_ends_mirror_each_other;
        /// A dial to where nobody listens waits for ever.
        DialToNobodyHangs: a_dial_without_a_listener_is_refused;
        /// A second `listen` closes the first listener and takes its address.
        SecondListenTakesOver: an_address_in_use_stays_with_its_listener;
        /// Closing a listener does not wake its `accept`.
        ListenerCloseDoesNotWake: closing_a_listener_wakes_its_accepts;
        /// `accept` of a closed listener gives an error of the system.
        ClosedListenerFails: closing_a_listener_wakes_its_accepts a_closed_listener_accepts_no_connection;
        /// `accept` waits for ever once the listener is closed.
        AcceptAfterCloseHangs: a_closed_listener_accepts_no_connection;
        /// Closing a listener does nothing.
        ListenerCloseIsIgnored:
            closing_a_listener_wakes_its_accepts
            a_closed_listener_accepts_no_connection
            the_address_of_a_closed_listener_is_free;
        /// Closing a listener twice panics.
        SecondListenerClosePanics: closing_a_listener_twice_has_no_effect;
        /// An address that was bound once cannot be bound again.
        AddrIsNeverFreed: the_address_of_a_closed_listener_is_free dropping_a_listener_closes_it;
        /// Closing a listener closes the connections that it has accepted.
        ListenerCloseEndsConns: connections_outlive_their_listener;
        /// An address of another scheme counts as unreachable.
        ForeignSchemeIsUnreachable: a_foreign_address_is_unsupported;
        /// A second dial to an address gives the connection of the first.
        DialsShareAConn: concurrent_dials_make_distinct_connections;
        /// `accept` makes the handshake before it looks at the next connection.
        HandshakesAreOneByOne: a_peer_that_stalls_in_its_handshake_delays_no_other;
        /// A handshake that fails closes the listener.
        BadHandshakeEndsListener: a_peer_that_fails_in_its_handshake_harms_no_other;
        /// The listeners of a transport accept from one queue.
        ListenersShareConns: two_listeners_get_their_own_connections;
        /// Dropping a listener does not close it.
        ListenerDropIsSilent: dropping_a_listener_closes_it;
    }
    data {
        /// The first write of a stream arrives after the second.
        SwapsTwoWrites: small_writes_arrive_whole writes_of_every_size_arrive;
        /// The length field of a frame holds 16 bits, and the rest of a longer write is lost.
        LengthsHave16Bits: writes_of_every_size_arrive many_bytes_in_both_directions_at_once;
        /// A read takes a whole message, and loses what the buffer has no room for.
        ReadsAreMessages: reads_smaller_than_writes_keep_the_order;
        /// A flush does nothing, and bytes wait until they fill a packet.
        FlushIsIgnored: a_counter_goes_to_and_fro;
        /// What arrives before a stream is accepted is lost.
        BytesBeforeAcceptAreLost: a_full_accept_backlog_loses_no_connection;
        /// A write of nothing sends a byte.
        EmptyWriteSendsAByte: an_empty_write_is_invisible;
        /// A read into an empty buffer takes a byte.
        EmptyReadTakesAByte: an_empty_read_is_not_the_end;
        /// A read into an empty buffer waits for ever.
        EmptyReadHangs: an_empty_read_is_not_the_end;
        /// A byte of one stream turns up in the next that is written to.
        MixesStreams: a_hundred_streams_do_not_mix;
        /// A vectored write sends its first part and reports all of them.
        VectoredWriteSendsOnePart: a_vectored_write_is_the_sum_of_its_parts;
        /// A read of a chunk takes all bytes that are there and gives the first part.
        ChunkLosesItsRest: chunks_carry_the_same_bytes;
        /// The peer learns of a stream by the first byte.
        StreamShowsAtFirstByte: the_acceptor_may_write_first a_stream_is_visible_before_its_first_write;
        /// The dialer learns of a stream by the first byte, the listener at once.
        ListenersStreamShowsAtFirstByte: the_acceptor_may_write_first a_stream_is_visible_before_its_first_write;
        /// The accepting side gives a stream another id than the opening side.
        IdsDiffer: both_ends_know_a_stream_by_one_number;
        /// Two streams have the same id.
        IdsRepeat: both_ends_know_a_stream_by_one_number;
        /// The streams opened by one side have the ids of those opened by the other.
        EachSideCountsIdsFromZero: streams_opened_by_both_sides_do_not_collide;
        /// Of the streams that wait, the last is accepted first.
        LastStreamIsAcceptedFirst: streams_are_accepted_in_their_order;
    }
    half_close {
        /// The last byte before a shutdown is lost, unless it was flushed.
        LosesLastByteAtShutdown:
            small_writes_arrive_whole
            a_shutdown_at_once_loses_nothing
            a_drop_after_the_shutdown_loses_nothing;
        /// A shutdown forgets what waits for the window.
        ShutdownForgetsTheQueue: a_shutdown_waits_for_a_slow_reader;
        /// After a shutdown, one's own reads give the end.
        ShutdownEndsBothDirections: a_reply_comes_after_the_shutdown many_bytes_come_after_the_shutdown;
        /// Once the end was read, one's own writes fail.
        EndEndsBothDirections: a_reply_comes_after_the_shutdown many_bytes_come_after_the_shutdown;
        /// A shutdown waits for the peer's.
        ShutdownWaitsForThePeers: a_reply_comes_after_the_shutdown many_bytes_come_after_the_shutdown;
        /// A write after the shutdown reports success.
        WriteAfterShutdownIsSwallowed: a_write_after_the_shutdown_is_a_broken_pipe;
        /// A second shutdown is an error.
        SecondShutdownFails: a_shutdown_can_be_repeated;
        /// The end is told once; the next read waits for ever.
        EndIsToldOnce: the_end_stays_the_end;
        /// A shutdown with nothing written is not sent.
        EmptyStreamHasNoEnd: a_shutdown_without_a_write_is_an_empty_stream;
        /// A stream that both sides have shut down is never freed.
        FinishedStreamsStay: shutdowns_may_cross ended_streams_do_not_count;
        /// A shutdown returns before it is done, and a drop takes it back.
        ShutdownIsLeftToTheBackground: a_drop_after_the_shutdown_loses_nothing;
        /// Dropping the receiving half resets the sending half.
        RecvDropResetsSend: the_halves_end_by_themselves;
    }
    reset {
        /// A reset reads as a clean end.
        ResetReadsAsEnd:
            a_reset_reaches_the_peers_read
            a_reset_wakes_the_peers_read
            a_drop_is_a_reset
            a_responder_dropped_midway_is_a_reset
            a_write_cut_short_and_dropped_is_a_reset;
        /// A reset reads as a clean end once this side has shut down.
        ResetReadsAsEndAfterShutdown: a_responder_dropped_midway_is_a_reset;
        /// A drop shuts down instead of resetting.
        DropIsAShutdown:
            a_drop_is_a_reset
            a_responder_dropped_midway_is_a_reset
            a_write_cut_short_and_dropped_is_a_reset;
        /// A drop tells the peer nothing.
        StreamDropIsSilent: a_drop_is_a_reset a_responder_dropped_midway_is_a_reset;
        /// The code of a reset arrives as 0.
        ResetLosesItsCode: a_reset_reaches_the_peers_read the_largest_code_arrives;
        /// The code of a stop arrives as 0.
        StopLosesItsCode: a_stop_reaches_the_peers_write the_largest_code_arrives;
        /// Codes are cut to 16 bits.
        CodesHave16Bits: the_largest_code_arrives;
        /// A reset does not wake a read that waits.
        ResetDoesNotWakeReads: a_reset_wakes_the_peers_read;
        /// A reset ends one's own reads as well.
        ResetEndsBothDirections: a_reset_leaves_the_receiving_direction;
        /// A stop does not reach the peer.
        StopIsSilent: a_stop_reaches_the_peers_write a_stop_wakes_the_peers_write;
        /// A stop does not wake a write that waits.
        StopDoesNotWakeWrites: a_stop_wakes_the_peers_write;
        /// A stop resets the other direction.
        StopEndsBothDirections: a_stop_ends_ones_own_reads_only;
        /// A write after one's own reset reports success.
        WriteAfterResetIsSwallowed: a_reset_ends_ones_own_writes;
        /// A shutdown after one's own reset reports success.
        ShutdownAfterResetSucceeds: a_reset_ends_ones_own_writes;
        /// A second reset panics.
        SecondResetPanics: a_reset_ends_ones_own_writes;
        /// A read after one's own stop waits for ever.
        ReadAfterStopHangs: a_stop_ends_ones_own_reads_only;
        /// Data for a stream that was dropped ends the connection.
        UnreadDropEndsConn: streams_dropped_unread_harm_no_others;
        /// A sender whose bytes were all taken in is told of a stop.
        EndSeemsStopped: a_drop_after_the_end_is_no_stop;
        /// A stop after the end is sent to the peer.
        StopAfterTheEndIsSent: a_drop_after_the_end_is_no_stop;
        /// A shutdown after the peer's stop fails.
        ShutdownAfterStopFails: a_stop_reaches_the_peers_write;
        /// `stopped` waits for ever.
        StoppedIsNeverTold: a_drop_after_the_end_is_no_stop;
        /// A reset hits another stream as well.
        ResetHitsASibling: a_reset_among_many_streams_hits_one;
    }
    backpressure {
        /// A stream takes more than its window.
        WindowIsIgnored: an_idle_reader_holds_its_writer_at_the_window a_window_grows_only_while_it_is_read;
        /// A writer that waits for its window is not woken.
        WindowDoesNotWake: a_reader_that_resumes_gets_everything;
        /// A stream carries one window and no more.
        WindowIsNeverRenewed: a_reader_that_resumes_gets_everything;
        /// What does not fit into the window is thrown away.
        FullWindowLosesBytes:
            an_idle_reader_holds_its_writer_at_the_window
            a_reader_that_resumes_gets_everything
            a_reader_that_sleeps_between_reads_gets_every_message;
        /// A write into a full window returns `Ok(0)`.
        FullWindowWritesNothing: an_idle_reader_holds_its_writer_at_the_window a_reader_that_resumes_gets_everything;
        /// All streams of a connection share one window.
        StreamsShareAWindow: a_stalled_stream_holds_up_no_other two_hundred_stalled_streams_hold_up_no_other;
        /// A stream whose writer waits holds up all writers of the connection.
        StalledStreamBlocksSiblings: a_stalled_stream_holds_up_no_other two_hundred_stalled_streams_hold_up_no_other;
        /// A window does not grow.
        WindowsStayAsTheyAre: a_window_grows_only_while_it_is_read windows_grow_out_of_one_budget_and_return_it;
        /// Windows grow out of another budget than the configuration's.
        BudgetIsIgnored: windows_grow_out_of_one_budget_and_return_it;
        /// A read that waits holds a lock that the writes of the stream need.
        HalvesShareALock:
            many_bytes_in_both_directions_at_once
            both_sides_may_write_before_either_reads
            the_halves_of_a_stream_work_on_different_threads
            a_timeout_in_one_direction_leaves_the_other_alone;
        /// Opens succeed beyond the limit.
        StreamLimitIsIgnored: opens_go_to_the_limit_and_then_wait;
        /// An open beyond the limit closes the connection.
        LimitEndsConn: opens_go_to_the_limit_and_then_wait an_open_that_waits_goes_on_when_a_stream_ends;
        /// An open that waits at the limit is not woken.
        WaitingOpenIsForgotten: an_open_that_waits_goes_on_when_a_stream_ends;
        /// A stream keeps its slot for ever.
        StreamKeepsItsSlot: an_open_that_waits_goes_on_when_a_stream_ends ended_streams_do_not_count;
        /// Stream ids run out after 65,535.
        IdsHave16Bits: seventy_thousand_streams_one_after_another;
        /// Every stream takes a megabyte of memory from the start.
        StreamsAreBig: memory_with_unaccepted_streams_is_bounded;
        /// Connections beyond the accept backlog are dropped after their dials have succeeded.
        FullBacklogLosesConns: a_full_accept_backlog_loses_no_connection;
        /// The accept backlog has no bound.
        BacklogIsIgnored: a_full_accept_backlog_loses_no_connection;
    }
    concurrency {
        /// Every stream turns up at the peer twice.
        StreamsComeTwice: many_openers_and_acceptors_get_each_stream_once;
        /// A second acceptor loses a stream.
        SecondAcceptorLosesAStream:
            many_openers_and_acceptors_get_each_stream_once
            a_stream_goes_to_one_of_two_acceptors;
        /// `stats` panics while an `accept_stream` waits.
        StatsPanicWhileAccepting: every_method_at_once_does_no_harm;
        /// An open or accept after the close gives an error of the system.
        CloseSeemsIo: close_races_with_open_accept_and_write operations_after_a_close_tell_whose_it_was;
        /// An open that finds the connection closed waits for ever.
        CloseDoesNotWakeOpens: close_races_with_open_accept_and_write a_close_wakes_all_that_is_blocked;
    }
    cancellation {
        /// A read that was given up takes the next bytes with it.
        CancelledReadTakesBytes: a_dropped_read_loses_no_byte;
        /// A write that has to wait keeps its bytes, and takes them for those of the next write.
        PendingWriteKeepsItsBytes: a_dropped_write_has_sent_a_prefix a_buffer_may_change_after_its_write_was_dropped;
        /// A write that has to wait is sent, and not reported.
        PendingWriteIsSent: a_reader_that_resumes_gets_everything;
        /// A write that has to wait keeps its offset, and starts there in the next buffer.
        PendingWriteKeepsItsOffset: a_dropped_write_has_sent_a_prefix a_buffer_may_change_after_its_write_was_dropped;
        /// `open_stream` opens when it is called, not when it is polled.
        OpenBeginsUnpolled: a_timeout_that_has_passed_moves_no_byte;
        /// An `accept_stream` that was given up takes the next stream with it.
        CancelledAcceptLosesAStream: a_dropped_accept_loses_no_stream;
        /// An open that was given up at the limit takes a slot with it.
        CancelledOpenKeepsItsSlot: a_dropped_open_leaks_no_slot;
        /// A stream of an open that was given up ends cleanly.
        CancelledOpenEndsCleanly: a_dropped_open_leaks_no_slot;
        /// A dial that was given up goes on, and its connection stays.
        CancelledDialStays: a_dropped_dial_leaves_nothing_behind;
    }
    closing {
        /// The code of a close arrives as 0.
        CloseLosesItsCode: a_close_tells_its_code_and_reason;
        /// The reason of a close is lost.
        CloseLosesItsReason: a_close_tells_its_code_and_reason;
        /// A close takes effect after seconds.
        CloseLingers: a_close_tells_its_code_and_reason a_close_wakes_all_that_is_blocked;
        /// A close does not wake a read that waits.
        CloseDoesNotWakeReads: a_close_wakes_all_that_is_blocked;
        /// A close does not wake a write that waits.
        CloseDoesNotWakeWrites: a_close_wakes_all_that_is_blocked;
        /// A close does not wake an `accept_stream` that waits.
        CloseDoesNotWakeAccepts: a_close_wakes_all_that_is_blocked;
        /// The last close of a side is the one that is reported.
        LastCloseWins: the_first_close_counts;
        /// A close by the peer is reported as one's own.
        RemoteCloseSeemsLocal: a_close_tells_its_code_and_reason operations_after_a_close_tell_whose_it_was;
        /// `closed` returns to one caller only.
        ClosedIsToldOnce: the_end_can_be_awaited_late_and_by_many;
        /// Dropping the last handle closes nothing.
        LastHandleDropIsSilent: the_last_handle_closes_after_the_last_stream;
        /// Dropping the last handle closes the connection, although a stream lives.
        LastHandleDropEndsStreams: the_last_handle_closes_after_the_last_stream;
        /// Dropping any handle closes the connection.
        EveryHandleDropCloses: the_last_handle_closes_after_the_last_stream;
        /// A lost connection reads as a clean end.
        FailureReadsAsEnd:
            a_stream_whose_transport_dies_gives_an_error
            a_cut_link_is_noticed_and_given_up
            a_killed_peer_is_noticed_and_given_up;
        /// A closed connection reads as a clean end.
        CloseReadsAsEnd: a_close_wakes_all_that_is_blocked;
        /// Errors of reads and writes have the right kind and carry nothing.
        ErrorsAreBare: a_reset_reaches_the_peers_read an_io_error_gives_its_cause_back;
        /// `drain` closes at once.
        DrainCutsStreams: a_drain_lets_streams_complete;
        /// `drain` does not end the opening of streams.
        DrainAllowsOpens: a_drain_lets_streams_complete;
        /// `drain` waits for the streams and leaves the connection open.
        DrainDoesNotClose: a_drain_lets_streams_complete a_drain_of_an_idle_connection_is_over_soon;
        /// `drain` of an idle connection waits for a stream to end.
        DrainWaitsForAStream: a_drain_of_an_idle_connection_is_over_soon;
        /// A reason that is too long panics.
        LongReasonPanics: a_long_reason_is_cut_between_characters;
    }
    liveness {
        /// `ping` returns zero.
        PingTakesNoTime: pings_measure_a_round_trip;
        /// `ping` returns without an answer of the peer.
        PingAsksNobody: a_ping_over_a_cut_link_does_not_hang;
        /// Of concurrent pings, one returns.
        PingHasOneWaiter: pings_measure_a_round_trip;
        /// A ping goes out once nothing was written for a while.
        PingWaitsForSilence: a_ping_gets_through_a_saturated_link;
        /// An idle connection ends, although the peer answers.
        IdleConnDies: an_idle_connection_stays_alive;
        /// The connection never gets `Disconnected`.
        OutageIsNotTold: a_cut_link_is_noticed_and_given_up;
        /// `Disconnected` and `Failed` come by other times than those of the configuration.
        LivenessHasItsOwnTimes: a_cut_link_is_noticed_and_given_up a_killed_peer_is_noticed_and_given_up;
        /// `Disconnected` and `Failed` come long before the times of the configuration.
        LivenessIsEager: a_cut_link_is_noticed_and_given_up;
        /// A silent peer is closed without waiting for it to come back.
        CutEndsConn: a_link_that_heals_has_lost_nothing;
        /// A connection that recovers stays `Disconnected`.
        RecoveryIsNotTold: a_link_that_heals_has_lost_nothing;
        /// The first bytes after an outage are lost.
        RecoveryLosesBytes: a_link_that_heals_has_lost_nothing;
        /// What is written during an outage is lost.
        WritesInAnOutageAreLost: a_link_that_heals_has_lost_nothing;
        /// A ping waits for ever when the connection fails.
        PingHangsOnFailure: a_ping_over_a_cut_link_does_not_hang;
        /// A failure does not wake a read that waits.
        FailureDoesNotWakeReads: a_cut_link_is_noticed_and_given_up a_killed_peer_is_noticed_and_given_up;
        /// `closed` does not return when the connection fails.
        ClosedIgnoresFailure: a_killed_peer_is_noticed_and_given_up;
    }
    leaks {
        /// Streams dropped before their end are never freed.
        AbandonedStreamsStay: dropped_streams_leave_nothing_behind;
        /// Every stream leaves a kilobyte of memory behind.
        StreamMemoryStays: dropped_streams_leave_nothing_behind;
        /// Every stream leaves a task behind.
        StreamTaskStays: dropped_streams_leave_nothing_behind;
        /// Every connection leaves a task behind.
        ConnTaskStays: closed_connections_leave_nothing_behind dropping_everything_ends_the_background_tasks;
        /// Every connection leaves memory behind.
        ConnMemoryStays: closed_connections_leave_nothing_behind;
        /// Every connection leaves a file descriptor behind.
        ConnFileStays: closed_connections_leave_nothing_behind;
        /// Dropping an unread stream does not return the credit of its bytes.
        UnreadDropKeepsCredit: dropped_unread_bytes_return_their_credit;
    }
    waiting {
        /// A drain by the side that has opened no stream closes at once.
        AcceptorsDrainCutsStreams: a_drain_by_the_acceptor_lets_streams_complete;
        /// Streams wait in an outage, although they should fail.
        FailStreamsWaits: a_disconnect_fails_the_streams_where_that_was_asked_for;
        /// A drain goes on waiting when the connection fails.
        DrainIgnoresFailure: nothing_waits_after_a_failure;
        /// A drain reports success when the connection fails.
        DrainSucceedsOnFailure: nothing_waits_after_a_failure;
        /// `stopped` tells that all has arrived when the connection fails.
        StoppedSeemsDoneOnFailure: nothing_waits_after_a_failure;
        /// A failure does not wake an open that waits at the limit.
        FailureDoesNotWakeOpens: nothing_waits_after_a_failure;
        /// A drain goes on waiting when the connection is closed.
        DrainIgnoresClose: a_close_ends_drains_and_waits_for_the_end;
        /// A read does not hear of a reset once this side has reset, too.
        CrossingResetIsLost: crossing_resets_leave_nothing_waiting;
        /// A reset reads as a clean end once this side has reset, too.
        CrossingResetReadsAsEnd: crossing_resets_leave_nothing_waiting;
        /// A stream that both sides have reset keeps its slot.
        CrossingResetKeepsItsSlot: crossing_resets_leave_nothing_waiting;
        /// A read that waits keeps the waker of its first poll.
        ReadKeepsItsFirstWaker: a_read_that_moved_is_woken_where_it_is;
        /// An accept that waits keeps the waker of its first poll.
        AcceptKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// An open that waits keeps the waker of its first poll.
        OpenKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// `closed` keeps the waker of its first poll.
        ClosedKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// A drain that waits keeps the waker of its first poll.
        DrainKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// `stopped` keeps the waker of its first poll.
        StoppedKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// A ping that waits keeps the waker of its first poll.
        PingKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// `accept` of a listener keeps the waker of its first poll.
        ListenerKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// A dial keeps the waker of its first poll.
        DialKeepsItsFirstWaker: calls_that_moved_are_woken_where_they_are;
        /// Pings are answered by a task, and wait for ever once that is gone.
        LostRuntimeIsNotNoticed: a_connection_whose_runtime_is_gone_fails;
        /// Streams are opened by a task, and wait for ever once that is gone.
        LostRuntimeStopsOpens: a_connection_whose_runtime_is_gone_fails;
        /// A drain counts the streams that the application has, and not those that wait to be accepted.
        DrainForgetsWaitingStreams: a_drain_waits_for_streams_that_wait_to_be_accepted;
    }
    bounds {
        /// A stream that the opener has reset gives its slot back while the acceptor holds it.
        ResetFreesTheSlot: streams_reset_at_once_stay_within_the_limit;
        /// A stream gives its slot back once the acceptor has read the reset, while it holds the stream.
        ReadResetFreesTheSlot: streams_reset_at_once_stay_within_the_limit;
        /// The connection window is as large as all windows of streams.
        ConnWindowIsIgnored: the_connection_window_holds_writers_up;
        /// A connection carries one window and no more.
        ConnWindowIsNeverRenewed: the_connection_window_holds_writers_up;
        /// The number of open streams is always 0.
        StatsForgetOpenStreams: statistics_are_exact;
        /// Bytes are counted in units of 1,024.
        StatsRoundBytes: statistics_are_exact;
        /// Errors of dial and listen do not name the address.
        ErrorsNameNoAddr: errors_name_the_address;
        /// Errors about an address that makes no sense name only what is wrong in it.
        InvalidAddrsAreNotNamed: errors_name_the_address;
        /// Options of an address that are not known are ignored.
        UnknownOptionsAreIgnored: unknown_options_are_refused;
        /// An address is looked at after the first wait.
        AddrsAreCheckedLate: a_foreign_address_is_unsupported unknown_options_are_refused;
        /// A configuration is not checked.
        ConfigIsNotChecked: an_invalid_configuration_is_refused;
        /// The times of a configuration are not checked.
        TimesAreNotChecked: an_invalid_configuration_is_refused;
        /// A configuration is checked by `listen` only.
        DialsWithAnyConfig: an_invalid_configuration_is_refused;
        /// Each write keeps a page of memory until its stream is over.
        WritesKeepPages: a_slow_reader_costs_no_more_than_its_window;
        /// A handshake may take for ever, and hold the next one up.
        HandshakeNeverTimesOut: a_stalled_handshake_is_given_up a_mute_stranger_takes_no_place_in_the_backlog;
        /// A dial that times out leaves its task.
        TimedOutDialKeepsItsTask: a_dial_that_times_out_leaves_nothing_behind;
        /// The error of a dial that times out does not name the address.
        TimedOutDialsNameNoAddr: a_dial_that_times_out_leaves_nothing_behind;
        /// A task polls the connection as fast as it can.
        IdleConnSpins: an_idle_connection_takes_no_processor_time;
        /// A task looks after the connection each millisecond.
        IdleConnTicks: an_idle_connection_takes_no_processor_time;
    }
    listeners {
        /// Handshakes that stall keep newcomers waiting until they time out.
        StallsShutNewcomersOut: a_newcomer_gets_in_while_others_stall;
        /// Any number of handshakes run at once.
        HandshakesAreUnbounded: no_more_handshakes_run_at_once_than_allowed;
        /// A handshake that stalls is given up only where a newcomer needs its place.
        StalledHandshakeStays: no_more_handshakes_run_at_once_than_allowed;
        /// A listen that was given up binds its address all the same.
        CancelledListenStaysBound: a_dropped_listen_leaves_nothing_bound;
        /// A second accept loses a connection.
        SecondAcceptLosesAConn: concurrent_accepts_get_each_connection_once;
        /// An accept that was given up takes the next connection with it.
        CancelledAcceptLosesAConn: a_dropped_accept_loses_no_connection;
        /// Connections that wait to be accepted live on when their listener is closed.
        ListenerCloseLeavesWaitingConns: a_closed_listener_closes_what_waits_to_be_accepted;
    }
}

impl Fault {
    /// Whether the erased types hide it: they call nothing before the first poll, and their clones share a
    /// handle.
    pub(crate) fn is_hidden_by_erasure(self) -> bool {
        matches!(self, Self::OpenBeginsUnpolled | Self::EveryHandleDropCloses)
    }

    /// Whether connections begin with a handshake.
    pub(crate) fn has_handshakes(self) -> bool {
        matches!(
            self,
            Self::HandshakesAreOneByOne
                | Self::HandshakeNeverTimesOut
                | Self::BadHandshakeEndsListener
        ) || self.has_handshakes_side_by_side()
    }

    /// Whether those run side by side.
    pub(crate) fn has_handshakes_side_by_side(self) -> bool {
        matches!(
            self,
            Self::Handshakes
                | Self::StallsShutNewcomersOut
                | Self::HandshakesAreUnbounded
                | Self::StalledHandshakeStays
        )
    }

    /// The configuration that the transport inside gets, where the fault is to ignore what was asked
    /// for, or to count by itself.
    pub(crate) fn config(self, asked: Config) -> Config {
        match self {
            Self::WindowIsIgnored => {
                let window = 64 << 20;
                let all = asked.connection_window.max(window.into());
                asked.with_stream_window(window).with_connection_window(all)
            }
            Self::StreamLimitIsIgnored
            | Self::LimitEndsConn
            | Self::WaitingOpenIsForgotten
            | Self::CancelledOpenKeepsItsSlot
            | Self::FinishedStreamsStay
            | Self::StreamsComeTwice => asked.with_max_streams(10_000),
            Self::StreamsShareAWindow => {
                let window = asked.stream_window.into();
                asked.with_connection_window(window)
            }
            Self::WindowsStayAsTheyAre => asked.with_window_growth(0),
            Self::BudgetIsIgnored => asked.with_growth_budget(GrowthBudget::of_process()),
            // Few enough to stay within what the case allows for.
            Self::FullBacklogLosesConns => {
                let more = asked.accept_backlog + 2;
                asked.with_accept_backlog(more)
            }
            Self::FailStreamsWaits => asked.with_on_disconnect(OnDisconnect::Wait),
            Self::ResetFreesTheSlot
            | Self::ReadResetFreesTheSlot
            | Self::CrossingResetKeepsItsSlot => asked.with_max_streams(10_000),
            Self::ConnWindowIsIgnored => asked.with_connection_window(1 << 30),
            Self::TimesAreNotChecked if names_a_time(&asked) => Config::default(),
            Self::ConfigIsNotChecked | Self::DialsWithAnyConfig if asked.validate().is_err() => {
                Config::default()
            }
            Self::BacklogIsIgnored => asked.with_accept_backlog(1000),
            Self::LivenessIsEager => {
                let soon = asked.keep_alive + Duration::from_millis(20);
                asked
                    .with_disconnected_after(soon)
                    .with_failed_after(2 * soon)
            }
            Self::LivenessHasItsOwnTimes => asked
                .with_failed_after(Duration::from_secs(300))
                .with_disconnected_after(Duration::from_secs(200)),
            _ => asked,
        }
    }
}

/// Whether it is a time for which the configuration is not valid.
fn names_a_time(config: &Config) -> bool {
    const TIMES: [&str; 4] = [
        "handshake_timeout",
        "keep_alive",
        "disconnected_after",
        "failed_after",
    ];
    let error = config.validate().err().map(|error| error.to_string());
    error.is_some_and(|error| TIMES.iter().any(|time| error.starts_with(time)))
}
