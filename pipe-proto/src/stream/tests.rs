use super::*;
use crate::frame::StreamFrame;

fn frames(stream: &mut Stream) -> Vec<StreamFrame> {
    std::iter::from_fn(|| stream.poll_frame(false))
        .map(|(frame, _)| frame)
        .collect()
}

#[test]
fn a_stream_of_the_peer_that_was_echoed_is_done_when_the_end_was_read() {
    let mut stream = Stream::remote(2);
    stream.accept();
    assert!(stream.on_bytes(5).unwrap());
    stream.read(5);
    stream.wrote(5, 5);
    assert!(stream.shutdown().unwrap());
    assert!(!stream.is_done());
    let reaction = stream.on_frame(StreamFrame::End(5)).unwrap();
    assert!(reaction.wakes_reader);
    assert!(stream.is_done());
    stream.counted_done = true;
    stream.on_done();
    assert_eq!(
        frames(&mut stream),
        [StreamFrame::End(5), StreamFrame::Done]
    );
    assert!(!stream.is_over());
    assert_eq!(stream.on_frame(StreamFrame::Taken).unwrap().freed, 5);
    assert!(stream.is_over() && stream.is_confirmed());
}

#[test]
fn a_drop_says_reset_before_stop_and_done_last() {
    let mut stream = Stream::remote(2);
    stream.accept();
    stream.wrote(3, 3);
    stream.reset(0);
    stream.stop(0);
    assert!(stream.is_done());
    stream.on_done();
    assert_eq!(stream.poll_frame(false), Some((StreamFrame::Reset(0), 3)));
    assert_eq!(
        frames(&mut stream),
        [StreamFrame::Stop(0), StreamFrame::Done]
    );
}

#[test]
fn the_end_waits_for_the_bytes_before_it() {
    let mut stream = Stream::local(1, true);
    stream.wrote(3, 0);
    stream.shutdown().unwrap();
    stream.stop(7);
    assert_eq!(stream.poll_frame(true), Some((StreamFrame::Open, 0)));
    assert_eq!(stream.poll_frame(true), Some((StreamFrame::Stop(7), 0)));
    assert_eq!(stream.poll_frame(true), None);
    assert_eq!(stream.poll_frame(false), Some((StreamFrame::End(3), 0)));
    assert_eq!(stream.poll_frame(false), None);
}

#[test]
fn bytes_and_the_end_may_come_in_any_order() {
    let mut stream = Stream::remote(2);
    assert!(stream.on_frame(StreamFrame::End(4)).is_ok());
    assert!(stream.on_bytes(3).unwrap());
    assert!(stream.on_fin(false).is_err());
    assert!(stream.on_bytes(1).unwrap());
    assert!(stream.on_fin(false).is_ok());
    stream.read(4);
    assert_eq!(stream.recv(), RecvHalf::Ended);
    assert!(stream.on_bytes(1).is_err());
}

#[test]
fn a_false_end_is_a_violation() {
    for end in [StreamFrame::End(4), StreamFrame::End(5)] {
        let mut stream = Stream::remote(2);
        let _ = stream.on_frame(StreamFrame::End(4)).unwrap();
        assert!(stream.on_frame(end).is_err());
    }
    let mut stream = Stream::remote(2);
    assert!(stream.on_bytes(5).unwrap());
    assert!(stream.on_frame(StreamFrame::End(4)).is_err());
    let _ = stream.on_fin(false).unwrap();
    assert!(stream.on_frame(StreamFrame::End(6)).is_err());
    assert!(stream.on_frame(StreamFrame::End(5)).is_ok());
}

#[test]
fn a_stop_of_the_peer_takes_the_end_back_and_frees_the_window() {
    let mut stream = Stream::local(1, false);
    stream.wrote(9, 9);
    stream.shutdown().unwrap();
    let reaction = stream.on_frame(StreamFrame::Stop(3)).unwrap();
    assert_eq!((reaction.freed, reaction.wakes_writer), (9, true));
    assert_eq!(frames(&mut stream), []);
    assert!(stream.shutdown().is_ok());
    assert_eq!(stream.send(), SendHalf::ShutThenStopped { code: 3 });
}

#[test]
fn a_cut_half_counts_until_the_application_lets_go() {
    let mut stream = Stream::remote(2);
    stream.accept();
    let _ = stream.on_frame(StreamFrame::Reset(1)).unwrap();
    let _ = stream.on_frame(StreamFrame::Stop(2)).unwrap();
    assert!(!stream.is_done());
    stream.reset(0);
    assert!(!stream.is_done());
    stream.stop(0);
    assert!(stream.is_done());
    assert_eq!(frames(&mut stream), []);
}

#[test]
fn credit_is_due_from_its_threshold_on_and_not_behind_the_end() {
    let mut stream = Stream::remote(2).with_credit_threshold(Some(10));
    stream.on_bytes(30).unwrap();
    stream.read(9);
    assert_eq!(frames(&mut stream), []);
    stream.read(1);
    assert_eq!(frames(&mut stream), [StreamFrame::Credit(10)]);
    let _ = stream.on_frame(StreamFrame::End(30)).unwrap();
    stream.read(15);
    assert_eq!(frames(&mut stream), []);
    stream.read(5);
    assert_eq!(frames(&mut stream), [StreamFrame::Taken]);

    let mut every = Stream::remote(4).with_credit_threshold(Some(0));
    every.on_bytes(3).unwrap();
    let _ = every.on_frame(StreamFrame::End(3)).unwrap();
    every.read(1);
    assert_eq!(frames(&mut every), [StreamFrame::Credit(1)]);
    every.read(2);
    assert_eq!(
        frames(&mut every),
        [StreamFrame::Credit(2), StreamFrame::Taken]
    );
}

#[test]
fn a_done_of_the_peer_confirms_and_leaves_nothing_to_say_of_the_end() {
    let mut stream = Stream::local(1, false);
    stream.wrote(2, 2);
    stream.shutdown().unwrap();
    let reaction = stream.on_frame(StreamFrame::Done).unwrap();
    assert_eq!(reaction.freed, 2);
    assert!(stream.is_confirmed());
    assert_eq!(frames(&mut stream), []);
    assert!(Stream::remote(2).on_frame(StreamFrame::Done).is_err());
}

#[test]
fn a_plain_end_is_clean_and_a_cut_is_a_reset() {
    let mut stream = Stream::remote(2);
    stream.on_bytes(3).unwrap();
    let _ = stream.on_fin(true).unwrap();
    assert_eq!(stream.recv(), RecvHalf::SizeKnown { total: 3 });
    stream.read(3);
    assert_eq!(stream.recv(), RecvHalf::Ended);

    let mut whole = Stream::remote(4).into_plain();
    whole.on_bytes(3).unwrap();
    let _ = whole.on_fin(true).unwrap();
    let _ = whole.on_cut();
    whole.read(3);
    assert_eq!(whole.recv(), RecvHalf::Ended);

    let mut stream = Stream::local(1, false);
    let reaction = stream.on_cut();
    assert!(reaction.wakes_reader && reaction.wakes_writer);
    assert_eq!(
        stream.send(),
        SendHalf::Stopped {
            code: 0,
            held: true
        }
    );
    assert_eq!(
        stream.recv(),
        RecvHalf::Reset {
            code: 0,
            held: true
        }
    );
}

#[test]
fn a_lost_carrier_cuts_what_has_not_ended_and_leaves_nothing_to_say() {
    let mut stream = Stream::remote(2).with_carrier();
    stream.accept();
    stream.on_bytes(3).unwrap();
    let _ = stream.on_frame(StreamFrame::End(3)).unwrap();
    stream.wrote(4, 4);
    stream.shutdown().unwrap();
    let reaction = stream.on_carrier_lost();
    assert_eq!((reaction.freed, reaction.wakes_reader), (4, true));
    assert!(!stream.has_frames() && frames(&mut stream).is_empty());
    stream.read(3);
    assert_eq!(stream.recv(), RecvHalf::Ended);
    assert!(stream.is_done());
    stream.counted_done = true;
    stream.on_done();
    assert!(stream.is_over());
}

fn native(mut stream: Stream, ends: Ends) -> Stream {
    stream.ends = ends;
    stream
}

/// A stream whose peer has all streams share a window.
fn shared(stream: Stream) -> Stream {
    native(stream, Ends::NativeShared)
}

#[test]
fn native_ends_are_told_by_no_frame() {
    let mut stream = shared(Stream::remote(2));
    stream.accept();
    stream.read(5);
    let _ = stream.on_fin(true).unwrap();
    assert_eq!(stream.recv(), RecvHalf::Ended);
    stream.wrote(5, 5);
    assert_eq!(stream.shutdown(), Ok(true));
    assert!(stream.is_done());
    stream.counted_done = true;
    stream.on_done();
    assert_eq!(frames(&mut stream), [StreamFrame::Done]);
    // The peer still returns what counts.
    assert!(!stream.is_over());
    assert_eq!(
        stream.on_frame(StreamFrame::Credit(5)).map(|r| r.freed),
        Ok(5)
    );
    assert!(stream.is_over());

    for cut in [Stream::disconnect, |stream: &mut Stream| {
        assert!(stream.reset(1) && stream.stop(2));
    }] {
        let mut stream = shared(Stream::local(1, false));
        stream.wrote(3, 3);
        cut(&mut stream);
        assert_eq!(frames(&mut stream), []);
        assert!(stream.needs_session());
        assert_eq!((stream.free_cut(), stream.free_cut()), (3, 0));
    }
}

#[test]
fn credit_returns_what_is_read_where_streams_share_no_window() {
    let stream = Stream::remote(2).with_credit_threshold(Some(4));
    let mut stream = native(stream, Ends::Native);
    stream.accept();
    stream.read(3);
    assert_eq!((stream.due_credit(), frames(&mut stream)), (None, vec![]));
    stream.read(2);
    assert_eq!(stream.due_credit(), Some(5));
    assert_eq!(frames(&mut stream), [StreamFrame::Credit(5)]);
    stream.read(9);
    // Nothing is left that the peer could send.
    let _ = stream.on_fin(true).unwrap();
    assert!(!stream.needs_session() && frames(&mut stream).is_empty());

    // Nor does this side wait for what the peer has not returned.
    stream.wrote(5, 5);
    let reaction = stream.on_frame(StreamFrame::Credit(7)).unwrap();
    assert_eq!((reaction.freed, stream.credit_ahead()), (5, 2));
    stream.wrote(3, 1);
    assert_eq!((stream.unacknowledged(), stream.credit_ahead()), (1, 0));
    assert_eq!(stream.shutdown(), Ok(true));
    stream.counted_done = true;
    stream.on_done();
    assert_eq!(frames(&mut stream), [StreamFrame::Done]);
    assert!(stream.is_over());

    let mut cut = native(Stream::local(1, false), Ends::Native);
    cut.wrote(3, 3);
    cut.reset(0);
    assert!(!cut.needs_session());
}

#[test]
fn credit_returns_everything_with_a_native_end() {
    let all = StreamFrame::Credit(u32::MAX);
    for end in [
        |stream: &mut Stream| {
            let _ = stream.on_fin(true).unwrap();
        },
        |stream: &mut Stream| stream.on_reset(1),
        |stream: &mut Stream| assert!(stream.stop(2)),
        Stream::disconnect,
    ] {
        let stream = Stream::remote(2).with_credit_threshold(Some(1));
        let mut stream = shared(stream);
        stream.read(3);
        end(&mut stream);
        assert_eq!(frames(&mut stream), [all]);
        stream.stop(0);
        assert_eq!(frames(&mut stream), []);
    }
    let mut uncounted = shared(Stream::remote(2));
    uncounted.on_reset(1);
    assert_eq!(frames(&mut uncounted), []);
}

#[test]
fn a_peer_that_discards_what_comes_counts_no_more() {
    let mut stream = shared(Stream::local(1, false));
    stream.wrote(3, 3);
    let reaction = stream.on_frame(StreamFrame::Credit(2)).unwrap();
    assert!(reaction.freed == 2 && stream.is_counted());
    let reaction = stream.on_frame(StreamFrame::Credit(u32::MAX)).unwrap();
    assert!(reaction.freed == 1 && !stream.is_counted());
    assert_eq!(stream.on_stop(7).freed, 0);
    let half = SendHalf::Stopped {
        code: 7,
        held: true,
    };
    assert_eq!(stream.send(), half);
}

#[test]
fn silence_is_told_as_reset_and_stop_with_code_0() {
    let mut stream = Stream::local(1, false);
    stream.disconnect();
    assert_eq!(
        frames(&mut stream),
        [StreamFrame::Reset(0), StreamFrame::Stop(0)]
    );
    stream.on_conn_end();
    assert!(!stream.has_frames());
    assert_eq!(stream.send().check_write(), Err(SendError::Disconnected));
}
