//! The faults, and the cases that have to notice them.

use std::time::Duration;

use pipe_core::{Config, OnDisconnect};

/// A fault with the cases that have to fail because of it.
pub(crate) struct Caught {
    pub(crate) fault: Fault,
    pub(crate) name: &'static str,
    /// The part of the contract that it breaks.
    pub(crate) group: &'static str,
    /// The numbers of the cases.
    pub(crate) by: &'static [u16],
}

macro_rules! faults {
    ($($group:ident {$(
        #[doc = $doc:literal]
        $name:ident: $($case:literal)+;
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
                by: &[$($case),+],
            },
        )+)+];
    };
}

faults! {
    lifecycle {
        /// The state is `Disconnected` until the peer was heard for the first time.
        StateBeginsDisconnected: 1;
        /// `state` gives a receiver that nobody ever writes to.
        StateNeverChanges: 94;
        /// `local_addr` of a listener is what was asked for, without the name or port that was chosen.
        ListenerEchoesItsAddr: 2;
        /// `remote_addr` is the local address again.
        RemoteAddrIsLocal: 3;
        /// A dial to where nobody listens waits for ever.
        DialToNobodyHangs: 4;
        /// A second `listen` closes the first listener and takes its address.
        SecondListenTakesOver: 5;
        /// Closing a listener does not wake its `accept`.
        ListenerCloseDoesNotWake: 6;
        /// `accept` of a closed listener gives an error of the system.
        ClosedListenerFails: 6 7;
        /// `accept` waits for ever once the listener is closed.
        AcceptAfterCloseHangs: 7;
        /// Closing a listener does nothing.
        ListenerCloseIsIgnored: 6 7 9;
        /// Closing a listener twice panics.
        SecondListenerClosePanics: 8;
        /// An address that was bound once cannot be bound again.
        AddrIsNeverFreed: 9 16;
        /// Closing a listener closes the connections that it has accepted.
        ListenerCloseEndsConns: 10;
        /// An address of another scheme counts as unreachable.
        ForeignSchemeIsUnreachable: 11;
        /// A second dial to an address gives the connection of the first.
        DialsShareAConn: 12;
        /// `accept` makes the handshake before it looks at the next connection.
        HandshakesAreOneByOne: 13;
        /// A handshake that fails closes the listener.
        BadHandshakeEndsListener: 14;
        /// The listeners of a transport accept from one queue.
        ListenersShareConns: 15;
        /// Dropping a listener does not close it.
        ListenerDropIsSilent: 16;
    }
    data {
        /// The first write of a stream arrives after the second.
        SwapsTwoWrites: 17 20;
        /// The length field of a frame holds 16 bits, and the rest of a longer write is lost.
        LengthsHave16Bits: 20 23;
        /// A read takes a whole message, and loses what the buffer has no room for.
        ReadsAreMessages: 19;
        /// A flush does nothing, and bytes wait until they fill a packet.
        FlushIsIgnored: 18;
        /// What arrives before a stream is accepted is lost.
        BytesBeforeAcceptAreLost: 66;
        /// A write of nothing sends a byte.
        EmptyWriteSendsAByte: 21;
        /// A read into an empty buffer takes a byte.
        EmptyReadTakesAByte: 22;
        /// A read into an empty buffer waits for ever.
        EmptyReadHangs: 22;
        /// A byte of one stream turns up in the next that is written to.
        MixesStreams: 24;
        /// A vectored write sends its first part and reports all of them.
        VectoredWriteSendsOnePart: 25;
        /// The peer learns of a stream by the first byte.
        StreamShowsAtFirstByte: 26 27;
        /// The dialer learns of a stream by the first byte, the listener at once.
        ListenersStreamShowsAtFirstByte: 26 27;
        /// The accepting side gives a stream another id than the opening side.
        IdsDiffer: 28;
        /// Two streams have the same id.
        IdsRepeat: 28;
        /// The streams opened by one side have the ids of those opened by the other.
        EachSideCountsIdsFromZero: 30;
        /// Of the streams that wait, the last is accepted first.
        LastStreamIsAcceptedFirst: 29;
    }
    half_close {
        /// The last byte before a shutdown is lost, unless it was flushed.
        LosesLastByteAtShutdown: 17 31 40;
        /// A shutdown forgets what waits for the window.
        ShutdownForgetsTheQueue: 39;
        /// After a shutdown, one's own reads give the end.
        ShutdownEndsBothDirections: 32 33;
        /// Once the end was read, one's own writes fail.
        EndEndsBothDirections: 32 33;
        /// A shutdown waits for the peer's.
        ShutdownWaitsForThePeers: 32 33;
        /// A write after the shutdown reports success.
        WriteAfterShutdownIsSwallowed: 34;
        /// A second shutdown is an error.
        SecondShutdownFails: 35;
        /// The end is told once; the next read waits for ever.
        EndIsToldOnce: 36;
        /// A shutdown with nothing written is not sent.
        EmptyStreamHasNoEnd: 37;
        /// A stream that both sides have shut down is never freed.
        FinishedStreamsStay: 38 63;
        /// A shutdown returns before it is done, and a drop takes it back.
        ShutdownIsLeftToTheBackground: 40;
        /// Dropping the receiving half resets the sending half.
        RecvDropResetsSend: 41;
    }
    reset {
        /// A reset reads as a clean end.
        ResetReadsAsEnd: 42 43 49 50 51;
        /// A reset reads as a clean end once this side has shut down.
        ResetReadsAsEndAfterShutdown: 50;
        /// A drop shuts down instead of resetting.
        DropIsAShutdown: 49 50 51;
        /// A drop tells the peer nothing.
        StreamDropIsSilent: 49 50;
        /// The code of a reset arrives as 0.
        ResetLosesItsCode: 42 55;
        /// The code of a stop arrives as 0.
        StopLosesItsCode: 45 55;
        /// Codes are cut to 16 bits.
        CodesHave16Bits: 55;
        /// A reset does not wake a read that waits.
        ResetDoesNotWakeReads: 43;
        /// A reset ends one's own reads as well.
        ResetEndsBothDirections: 44;
        /// A stop does not reach the peer.
        StopIsSilent: 45 46;
        /// A stop does not wake a write that waits.
        StopDoesNotWakeWrites: 46;
        /// A stop resets the other direction.
        StopEndsBothDirections: 48;
        /// A write after one's own reset reports success.
        WriteAfterResetIsSwallowed: 47;
        /// A shutdown after one's own reset reports success.
        ShutdownAfterResetSucceeds: 47;
        /// A second reset panics.
        SecondResetPanics: 47;
        /// A read after one's own stop waits for ever.
        ReadAfterStopHangs: 48;
        /// Data for a stream that was dropped ends the connection.
        UnreadDropEndsConn: 52;
        /// A sender whose bytes were all taken in is told of a stop.
        EndSeemsStopped: 53;
        /// A stop after the end is sent to the peer.
        StopAfterTheEndIsSent: 53;
        /// A shutdown after the peer's stop fails.
        ShutdownAfterStopFails: 45;
        /// `stopped` waits for ever.
        StoppedIsNeverTold: 53;
        /// A reset hits another stream as well.
        ResetHitsASibling: 54;
    }
    backpressure {
        /// A stream takes more than its window.
        WindowIsIgnored: 56;
        /// A writer that waits for its window is not woken.
        WindowDoesNotWake: 57;
        /// A stream carries one window and no more.
        WindowIsNeverRenewed: 57;
        /// What does not fit into the window is thrown away.
        FullWindowLosesBytes: 56 57 59;
        /// A write into a full window returns `Ok(0)`.
        FullWindowWritesNothing: 56 57;
        /// All streams of a connection share one window.
        StreamsShareAWindow: 58;
        /// A stream whose writer waits holds up all writers of the connection.
        StalledStreamBlocksSiblings: 58;
        /// A read that waits holds a lock that the writes of the stream need.
        HalvesShareALock: 23 60 69 75;
        /// Opens succeed beyond the limit.
        StreamLimitIsIgnored: 61;
        /// An open beyond the limit closes the connection.
        LimitEndsConn: 61 62;
        /// An open that waits at the limit is not woken.
        WaitingOpenIsForgotten: 62;
        /// A stream keeps its slot for ever.
        StreamKeepsItsSlot: 62 63;
        /// Stream ids run out after 65,535.
        IdsHave16Bits: 64;
        /// Every stream takes a megabyte of memory from the start.
        StreamsAreBig: 65;
        /// Connections beyond the accept backlog are dropped after their dials have succeeded.
        FullBacklogLosesConns: 66;
        /// The accept backlog has no bound.
        BacklogIsIgnored: 66;
    }
    concurrency {
        /// Every stream turns up at the peer twice.
        StreamsComeTwice: 67;
        /// A second acceptor loses a stream.
        SecondAcceptorLosesAStream: 67 68;
        /// `stats` panics while an `accept_stream` waits.
        StatsPanicWhileAccepting: 70;
        /// An open or accept after the close gives an error of the system.
        CloseSeemsIo: 71 83;
        /// An open that finds the connection closed waits for ever.
        CloseDoesNotWakeOpens: 71 81;
    }
    cancellation {
        /// A read that was given up takes the next bytes with it.
        CancelledReadTakesBytes: 72;
        /// A write that has to wait keeps its bytes, and takes them for those of the next write.
        PendingWriteKeepsItsBytes: 73 74;
        /// A write that has to wait is sent, and not reported.
        PendingWriteIsSent: 57;
        /// A write that has to wait keeps its offset, and starts there in the next buffer.
        PendingWriteKeepsItsOffset: 73 74;
        /// `open_stream` opens when it is called, not when it is polled.
        OpenBeginsUnpolled: 76;
        /// An `accept_stream` that was given up takes the next stream with it.
        CancelledAcceptLosesAStream: 77;
        /// An open that was given up at the limit takes a slot with it.
        CancelledOpenKeepsItsSlot: 78;
        /// A stream of an open that was given up ends cleanly.
        CancelledOpenEndsCleanly: 78;
        /// A dial that was given up goes on, and its connection stays.
        CancelledDialStays: 79;
    }
    closing {
        /// The code of a close arrives as 0.
        CloseLosesItsCode: 80;
        /// The reason of a close is lost.
        CloseLosesItsReason: 80;
        /// A close takes effect after seconds.
        CloseLingers: 80 81;
        /// A close does not wake a read that waits.
        CloseDoesNotWakeReads: 81;
        /// A close does not wake a write that waits.
        CloseDoesNotWakeWrites: 81;
        /// A close does not wake an `accept_stream` that waits.
        CloseDoesNotWakeAccepts: 81;
        /// The last close of a side is the one that is reported.
        LastCloseWins: 82;
        /// A close by the peer is reported as one's own.
        RemoteCloseSeemsLocal: 80 83;
        /// `closed` returns to one caller only.
        ClosedIsToldOnce: 84;
        /// Dropping the last handle closes nothing.
        LastHandleDropIsSilent: 85;
        /// Dropping the last handle closes the connection, although a stream lives.
        LastHandleDropEndsStreams: 85;
        /// Dropping any handle closes the connection.
        EveryHandleDropCloses: 67 85;
        /// A lost connection reads as a clean end.
        FailureReadsAsEnd: 86 94 97;
        /// A closed connection reads as a clean end.
        CloseReadsAsEnd: 81;
        /// Errors of reads and writes have the right kind and carry nothing.
        ErrorsAreBare: 42 87;
        /// `drain` closes at once.
        DrainCutsStreams: 88;
        /// `drain` does not end the opening of streams.
        DrainAllowsOpens: 88;
        /// `drain` waits for the streams and leaves the connection open.
        DrainDoesNotClose: 88 89;
        /// `drain` of an idle connection waits for a stream to end.
        DrainWaitsForAStream: 89;
        /// A reason that is too long panics.
        LongReasonPanics: 90;
    }
    liveness {
        /// `ping` returns zero.
        PingTakesNoTime: 91;
        /// `ping` returns without an answer of the peer.
        PingAsksNobody: 96;
        /// Of concurrent pings, one returns.
        PingHasOneWaiter: 91;
        /// A ping goes out once nothing was written for a while.
        PingWaitsForSilence: 92;
        /// An idle connection ends, although the peer answers.
        IdleConnDies: 93;
        /// The connection never gets `Disconnected`.
        OutageIsNotTold: 94;
        /// `Disconnected` and `Failed` come by other times than those of the configuration.
        LivenessHasItsOwnTimes: 94 97;
        /// `Disconnected` and `Failed` come long before the times of the configuration.
        LivenessIsEager: 94;
        /// A silent peer is closed without waiting for it to come back.
        CutEndsConn: 95;
        /// A connection that recovers stays `Disconnected`.
        RecoveryIsNotTold: 95;
        /// The first bytes after an outage are lost.
        RecoveryLosesBytes: 95;
        /// What is written during an outage is lost.
        WritesInAnOutageAreLost: 95;
        /// A ping waits for ever when the connection fails.
        PingHangsOnFailure: 96;
        /// A failure does not wake a read that waits.
        FailureDoesNotWakeReads: 94 97;
        /// `closed` does not return when the connection fails.
        ClosedIgnoresFailure: 97;
    }
    leaks {
        /// Streams dropped before their end are never freed.
        AbandonedStreamsStay: 98;
        /// Every stream leaves a kilobyte of memory behind.
        StreamMemoryStays: 98;
        /// Every stream leaves a task behind.
        StreamTaskStays: 98;
        /// Every connection leaves a task behind.
        ConnTaskStays: 99 101;
        /// Every connection leaves memory behind.
        ConnMemoryStays: 99;
        /// Every connection leaves a file descriptor behind.
        ConnFileStays: 99;
        /// Dropping an unread stream does not return the credit of its bytes.
        UnreadDropKeepsCredit: 100;
    }
    waiting {
        /// A drain by the side that has opened no stream closes at once.
        AcceptorsDrainCutsStreams: 115;
        /// Streams wait in an outage, although they should fail.
        FailStreamsWaits: 116;
        /// A drain goes on waiting when the connection fails.
        DrainIgnoresFailure: 117;
        /// A drain reports success when the connection fails.
        DrainSucceedsOnFailure: 117;
        /// `stopped` tells that all has arrived when the connection fails.
        StoppedSeemsDoneOnFailure: 117;
        /// A failure does not wake an open that waits at the limit.
        FailureDoesNotWakeOpens: 117;
        /// A drain goes on waiting when the connection is closed.
        DrainIgnoresClose: 118;
        /// A read does not hear of a reset once this side has reset, too.
        CrossingResetIsLost: 119;
        /// A reset reads as a clean end once this side has reset, too.
        CrossingResetReadsAsEnd: 119;
        /// A stream that both sides have reset keeps its slot.
        CrossingResetKeepsItsSlot: 119;
        /// A read that waits keeps the waker of its first poll.
        ReadKeepsItsFirstWaker: 120;
        /// An accept that waits keeps the waker of its first poll.
        AcceptKeepsItsFirstWaker: 121;
        /// An open that waits keeps the waker of its first poll.
        OpenKeepsItsFirstWaker: 121;
        /// `closed` keeps the waker of its first poll.
        ClosedKeepsItsFirstWaker: 121;
        /// A drain that waits keeps the waker of its first poll.
        DrainKeepsItsFirstWaker: 121;
        /// `stopped` keeps the waker of its first poll.
        StoppedKeepsItsFirstWaker: 121;
        /// A ping that waits keeps the waker of its first poll.
        PingKeepsItsFirstWaker: 121;
        /// `accept` of a listener keeps the waker of its first poll.
        ListenerKeepsItsFirstWaker: 121;
        /// A dial keeps the waker of its first poll.
        DialKeepsItsFirstWaker: 121;
        /// Pings are answered by a task, and wait for ever once that is gone.
        LostRuntimeIsNotNoticed: 122;
        /// Streams are opened by a task, and wait for ever once that is gone.
        LostRuntimeStopsOpens: 122;
        /// A drain counts the streams that the application has, and not those that wait to be accepted.
        DrainForgetsWaitingStreams: 140;
    }
    bounds {
        /// A stream that the opener has reset gives its slot back while the acceptor holds it.
        ResetFreesTheSlot: 123;
        /// A stream gives its slot back once the acceptor has read the reset, while it holds the stream.
        ReadResetFreesTheSlot: 123;
        /// The connection window is as large as all windows of streams.
        ConnWindowIsIgnored: 124;
        /// A connection carries one window and no more.
        ConnWindowIsNeverRenewed: 124;
        /// The number of open streams is always 0.
        StatsForgetOpenStreams: 125;
        /// Bytes are counted in units of 1,024.
        StatsRoundBytes: 125;
        /// Errors of dial and listen do not name the address.
        ErrorsNameNoAddr: 126;
        /// Errors about an address that makes no sense name only what is wrong in it.
        InvalidAddrsAreNotNamed: 126;
        /// Options of an address that are not known are ignored.
        UnknownOptionsAreIgnored: 127;
        /// An address is looked at after the first wait.
        AddrsAreCheckedLate: 11 127;
        /// A configuration is not checked.
        ConfigIsNotChecked: 128;
        /// The times of a configuration are not checked.
        TimesAreNotChecked: 128;
        /// A configuration is checked by `listen` only.
        DialsWithAnyConfig: 128;
        /// Each write keeps a page of memory until its stream is over.
        WritesKeepPages: 129;
        /// A handshake may take for ever, and hold the next one up.
        HandshakeNeverTimesOut: 130 131;
        /// A dial that times out leaves its task.
        TimedOutDialKeepsItsTask: 132;
        /// The error of a dial that times out does not name the address.
        TimedOutDialsNameNoAddr: 132;
        /// A task polls the connection as fast as it can.
        IdleConnSpins: 133;
        /// A task looks after the connection each millisecond.
        IdleConnTicks: 133;
    }
    listeners {
        /// Handshakes that stall keep newcomers waiting until they time out.
        StallsShutNewcomersOut: 134;
        /// Any number of handshakes run at once.
        HandshakesAreUnbounded: 135;
        /// A handshake that stalls is given up only where a newcomer needs its place.
        StalledHandshakeStays: 135;
        /// A listen that was given up binds its address all the same.
        CancelledListenStaysBound: 136;
        /// A second accept loses a connection.
        SecondAcceptLosesAConn: 137;
        /// An accept that was given up takes the next connection with it.
        CancelledAcceptLosesAConn: 138;
        /// Connections that wait to be accepted live on when their listener is closed.
        ListenerCloseLeavesWaitingConns: 139;
    }
}

impl Fault {
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
