use pipe_core::backend::{Liveness, LivenessEvent, liveness, lost};
use pipe_core::{Config, Error, ErrorKind};
use tokio::time::Instant;

/// Detects from silence whether the peer is reachable: its machine, which sends packets, and its
/// program, which answers pings and sends messages.
///
/// Neither signal is sufficient by itself. The checks of ICE continue where the association above
/// them is dead, and a path that recovers after a cut carries them seconds before lost data is sent
/// again.
///
/// A message counts when it is whole. On a path so slow that one takes longer than
/// [`disconnected_after`](Config::disconnected_after), 64 KiB at most, the state becomes
/// disconnected.
#[derive(Debug)]
pub(super) struct Signs {
    path: Liveness,
    program: Liveness,
    /// The error of a connection whose peer is lost.
    lost: Error,
    path_is_up: bool,
    program_is_up: bool,
    /// Whether the program can be pinged. That of a plain peer can not, and counts as alive while
    /// packets come.
    is_asked: bool,
    /// Number of packets received so far.
    heard: u64,
    /// Time of the last message of the program that was not checked yet.
    said: Option<Instant>,
}

impl Signs {
    pub(super) fn new(config: &Config, is_asked: bool, heard: u64, now: Instant) -> Self {
        Self {
            path: liveness(config, now.into_std()),
            program: liveness(config, now.into_std()),
            lost: lost(config),
            path_is_up: true,
            program_is_up: true,
            is_asked,
            heard,
            said: None,
        }
    }

    /// Notes that the peer's program has sent a message.
    pub(super) fn note_said(&mut self, now: Instant) {
        self.said = Some(now);
    }

    /// Counts the packets since the last check; `heard` is their total. Returns whether there were
    /// any.
    pub(super) fn look(&mut self, heard: u64, now: Instant) -> bool {
        let said = self.said.take();
        if let Some(at) = said {
            self.program.heard(at.into_std());
            self.program_is_up = true;
        }
        let news = heard != self.heard;
        if news {
            self.heard = heard;
            let is_back = self.path.heard(now.into_std());
            self.path_is_up = true;
            // Messages of the program are lost meanwhile, and come again when the engine's timer
            // fires.
            if is_back || !self.is_asked {
                self.program.heard(now.into_std());
                self.program_is_up = true;
            }
        }
        news || said.is_some()
    }

    /// Returns a due event. Call it until there is none.
    pub(super) fn poll(&mut self, now: Instant) -> Option<LivenessEvent> {
        while let Some(event) = self.path.poll(now.into_std()) {
            match event {
                // A program that is to be pinged has been silent for at least as long.
                LivenessEvent::Ping => continue,
                LivenessEvent::Disconnected => self.path_is_up = false,
                LivenessEvent::Failed => {}
            }
            return Some(event);
        }
        let event = self.program.poll(now.into_std())?;
        if event == LivenessEvent::Disconnected {
            self.program_is_up = false;
        }
        Some(event)
    }

    /// Returns when to [`poll`](Self::poll) again, if nothing comes before.
    pub(super) fn deadline(&self) -> Instant {
        self.path.deadline().min(self.program.deadline()).into()
    }

    pub(super) fn are_up(&self) -> bool {
        self.path_is_up && self.program_is_up
    }

    /// Returns the error of a connection whose peer is lost.
    pub(super) fn error(&self) -> Error {
        if !self.path_is_up {
            return self.lost.clone();
        }
        let why = "packets of the peer come, but it has not answered for long";
        Error::new(ErrorKind::Failed, why)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Fixture {
        signs: Signs,
        start: Instant,
        heard: u64,
    }

    impl Fixture {
        fn new(is_asked: bool) -> Self {
            let config = Config::default()
                .with_keep_alive(Duration::from_secs(2))
                .with_disconnected_after(Duration::from_secs(5))
                .with_failed_after(Duration::from_secs(30));
            let start = Instant::now();
            Self {
                signs: Signs::new(&config, is_asked, 0, start),
                start,
                heard: 0,
            }
        }

        /// Checks at this second, with or without packets, and returns the due events.
        fn look(&mut self, second: u64, packets: bool) -> Vec<LivenessEvent> {
            let now = self.start + Duration::from_secs(second);
            self.heard += u64::from(packets);
            self.signs.look(self.heard, now);
            let mut events = Vec::new();
            while let Some(event) = self.signs.poll(now) {
                events.push(event);
            }
            events
        }

        /// Checks in each of these seconds, and returns the times of all events but pings.
        fn watch(
            &mut self,
            seconds: std::ops::Range<u64>,
            packets: bool,
        ) -> Vec<(u64, LivenessEvent)> {
            let mut all = Vec::new();
            for second in seconds {
                let events = self.look(second, packets).into_iter();
                let events = events.filter(|event| *event != LivenessEvent::Ping);
                all.extend(events.map(|event| (second, event)));
            }
            all
        }

        fn says(&mut self, second: u64) {
            self.signs
                .note_said(self.start + Duration::from_secs(second));
        }
    }

    #[test]
    fn packets_alone_do_not_keep_a_connection_alive() {
        let mut f = Fixture::new(true);
        let events = f.watch(1..31, true);
        let all = [
            (5, LivenessEvent::Disconnected),
            (30, LivenessEvent::Failed),
        ];
        assert_eq!(events, all);
        assert!(!f.signs.are_up());
        assert!(f.signs.error().to_string().contains("answered"));
    }

    #[test]
    fn a_program_that_speaks_now_and_then_is_alive() {
        let mut f = Fixture::new(true);
        for second in (0..100).step_by(4) {
            f.says(second);
            assert_eq!(f.watch(second + 1..second + 5, true), []);
        }
        assert!(f.signs.are_up());
    }

    #[test]
    fn a_word_of_the_program_ends_a_disconnect() {
        let mut f = Fixture::new(true);
        assert_eq!(f.watch(1..8, true).len(), 1);
        f.says(8);
        assert_eq!(f.watch(8..13, true), []);
        assert!(f.signs.are_up());
        assert_eq!(f.watch(13..14, true), [(13, LivenessEvent::Disconnected)]);
    }

    #[test]
    fn a_path_that_is_back_gives_the_program_time_to_answer() {
        let mut f = Fixture::new(true);
        assert!(!f.watch(1..25, false).is_empty());
        assert!(!f.signs.are_up());
        assert_eq!(f.watch(25..30, true), []);
        assert!(f.signs.are_up());
        let all = [
            (30, LivenessEvent::Disconnected),
            (55, LivenessEvent::Failed),
        ];
        assert_eq!(f.watch(30..56, true), all);
    }

    #[test]
    fn silence_of_all_is_told_as_that() {
        let mut f = Fixture::new(true);
        let events = f.watch(1..31, false);
        assert_eq!(events.first(), Some(&(5, LivenessEvent::Disconnected)));
        assert_eq!(events.last(), Some(&(30, LivenessEvent::Failed)));
        assert!(f.signs.error().to_string().contains("nothing heard"));
    }

    #[test]
    fn a_plain_peer_is_alive_while_its_packets_come() {
        let mut f = Fixture::new(false);
        assert_eq!(f.watch(1..100, true), []);
        let events = f.watch(100..105, false);
        assert_eq!(events.first(), Some(&(104, LivenessEvent::Disconnected)));
    }

    #[test]
    fn a_silent_program_is_asked_though_packets_come() {
        let mut f = Fixture::new(true);
        assert_eq!(f.look(1, true), []);
        assert_eq!(f.look(2, true), [LivenessEvent::Ping]);
        assert_eq!(f.look(3, true), []);
        assert_eq!(f.look(4, true), [LivenessEvent::Ping]);
    }
}
