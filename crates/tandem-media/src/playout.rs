//! The downlink queue of one leg: model audio waits here, in G.711, until its packet leaves.

use std::{collections::VecDeque, time::Duration};

use crate::{Law, SampleRate, g711};

/// Audio a queue holds unless told otherwise: ten minutes.
const DEFAULT_BOUND: Duration = Duration::from_secs(600);
/// Stretches of different items that may wait at once.
const MAX_STRETCHES: usize = 1024;
/// Items whose account is kept after their audio has gone.
const KEPT_ACCOUNTS: usize = 64;
/// An empty queue that has grown beyond this many bytes gives the memory back.
const KEPT_CAPACITY: usize = 256 * 1024;

/// A bounded queue of G.711 bytes in which every byte belongs to an item, one stretch of model speech.
///
/// Items are named by rising numbers and play in the order they are pushed. An item that ran empty may get more audio.
#[derive(Debug)]
pub struct Playout {
    law: Law,
    bound: usize,
    bytes: VecDeque<u8>,
    stretches: VecDeque<Stretch>,
    accounts: VecDeque<Account>,
    started: Vec<u64>,
    emptied: Vec<u64>,
}

/// Adjacent queued bytes of one item.
#[derive(Debug)]
struct Stretch {
    item: u64,
    queued: usize,
}

/// What became of one item's audio, in bytes.
#[derive(Debug)]
struct Account {
    item: u64,
    received: usize,
    heard: usize,
    queued: usize,
}

/// What one packet took from the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Pulled<'a> {
    /// Bytes of audio in the packet; silence pads the rest.
    pub bytes: usize,
    /// Items of which this packet brings the first audio.
    pub started: &'a [u64],
    /// Items of which nothing is queued any more after this packet.
    pub emptied: &'a [u64],
}

/// An item that lost queued audio when the queue was cleared, counted in G.711 bytes (8,000 a second).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutBytes {
    /// The item.
    pub item: u64,
    /// What had been pulled of it.
    pub heard: usize,
    /// What had been pushed of it, bytes refused for want of room included.
    pub received: usize,
}

impl Playout {
    /// An empty queue for bytes of `law` that holds ten minutes.
    pub fn new(law: Law) -> Self {
        Self::with_bound(law, DEFAULT_BOUND)
    }

    /// An empty queue for bytes of `law` that holds `bound` of audio.
    pub fn with_bound(law: Law, bound: Duration) -> Self {
        Self {
            law,
            bound: usize::try_from(bound.as_millis()).unwrap_or(usize::MAX).saturating_mul(8),
            bytes: VecDeque::new(),
            stretches: VecDeque::new(),
            accounts: VecDeque::new(),
            started: Vec::new(),
            emptied: Vec::new(),
        }
    }

    /// The law of the bytes that are pushed and pulled.
    pub fn law(&self) -> Law {
        self.law
    }

    /// Changes the law of the bytes that are pushed and pulled from now on; what is queued is transcoded.
    pub fn set_law(&mut self, law: Law) {
        let (front, back) = self.bytes.as_mut_slices();
        g711::transcode(self.law, law, front);
        g711::transcode(self.law, law, back);
        self.law = law;
    }

    /// Queues audio of `item` after what is queued already and returns how many bytes of it were refused.
    ///
    /// The end of `bytes` that would exceed the bound is refused; so is everything when 1,024 stretches of different items wait.
    pub fn push(&mut self, item: u64, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let continues = self.stretches.back().is_some_and(|last| last.item == item);
        if !continues && self.stretches.len() == MAX_STRETCHES {
            return bytes.len();
        }
        let accepted = bytes.len().min(self.bound.saturating_sub(self.bytes.len()));
        let account = self.account_mut(item);
        account.received += bytes.len();
        account.queued += accepted;
        self.bytes.extend(&bytes[..accepted]);
        match self.stretches.back_mut() {
            Some(last) if continues => last.queued += accepted,
            _ if accepted > 0 => self.stretches.push_back(Stretch { item, queued: accepted }),
            _ => {}
        }
        bytes.len() - accepted
    }

    /// Fills one packet from the queue; what the queue cannot fill becomes silence.
    pub fn pull(&mut self, frame: &mut [u8]) -> Pulled<'_> {
        self.started.clear();
        self.emptied.clear();
        let bytes = frame.len().min(self.bytes.len());
        let (audio, padding) = frame.split_at_mut(bytes);
        let (front, back) = self.bytes.as_slices();
        let from_front = bytes.min(front.len());
        audio[..from_front].copy_from_slice(&front[..from_front]);
        audio[from_front..].copy_from_slice(&back[..bytes - from_front]);
        self.bytes.drain(..bytes);
        padding.fill(self.law.silence());
        self.settle(bytes);
        Pulled { bytes, started: &self.started, emptied: &self.emptied }
    }

    /// Throws away all queued audio and appends the items that lost some to `cut`, the one being played first.
    pub fn clear(&mut self, cut: &mut Vec<CutBytes>) {
        for stretch in &self.stretches {
            let account = self
                .accounts
                .iter_mut()
                .find(|account| account.item == stretch.item)
                .expect("an item with queued audio has an account");
            if account.queued > 0 {
                account.queued = 0;
                cut.push(CutBytes {
                    item: account.item,
                    heard: account.heard,
                    received: account.received,
                });
            }
        }
        self.stretches.clear();
        self.bytes.clear();
        self.give_memory_back();
    }

    /// How much of `item` has been pulled, if it is queued or among the 64 last played.
    pub fn heard(&self, item: u64) -> Option<Duration> {
        let account = self.accounts.iter().rev().find(|account| account.item == item)?;
        Some(SampleRate::Hz8000.duration_of(account.heard))
    }

    /// How long the queued audio lasts.
    pub fn queued(&self) -> Duration {
        SampleRate::Hz8000.duration_of(self.bytes.len())
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Books `bytes` that were pulled to the items they belong to.
    fn settle(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let stretch =
                self.stretches.front_mut().expect("every queued byte belongs to a stretch");
            let taken = bytes.min(stretch.queued);
            stretch.queued -= taken;
            bytes -= taken;
            let item = stretch.item;
            if stretch.queued == 0 {
                self.stretches.pop_front();
            }
            let account = self
                .accounts
                .iter_mut()
                .find(|account| account.item == item)
                .expect("an item with queued audio has an account");
            if account.heard == 0 {
                self.started.push(item);
            }
            account.heard += taken;
            account.queued -= taken;
            if account.queued == 0 {
                self.emptied.push(item);
            }
        }
        self.give_memory_back();
    }

    fn account_mut(&mut self, item: u64) -> &mut Account {
        let position = match self.accounts.iter().rposition(|account| account.item == item) {
            Some(position) => position,
            None => {
                while self.accounts.len() >= KEPT_ACCOUNTS
                    && let Some(oldest) =
                        self.accounts.iter().position(|account| account.queued == 0)
                {
                    self.accounts.remove(oldest);
                }
                self.accounts.push_back(Account { item, received: 0, heard: 0, queued: 0 });
                self.accounts.len() - 1
            }
        };
        &mut self.accounts[position]
    }

    fn give_memory_back(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_CAPACITY {
            self.bytes.shrink_to(KEPT_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one pull did, owned.
    fn pull(playout: &mut Playout, bytes: usize) -> (Vec<u8>, usize, Vec<u64>, Vec<u64>) {
        let mut frame = vec![0; bytes];
        let pulled = playout.pull(&mut frame);
        let (bytes, started, emptied) =
            (pulled.bytes, pulled.started.to_vec(), pulled.emptied.to_vec());
        (frame, bytes, started, emptied)
    }

    #[test]
    fn a_packet_may_hold_the_end_of_one_item_and_all_of_another() {
        let mut playout = Playout::new(Law::Mu);
        assert_eq!(playout.push(1, &[1; 200]), 0);
        assert_eq!(playout.push(2, &[2; 30]), 0);
        assert_eq!(playout.push(3, &[3; 100]), 0);
        assert_eq!(playout.queued(), Duration::from_micros(330 * 125));
        assert_eq!(pull(&mut playout, 160), (vec![1; 160], 160, vec![1], vec![]));
        let second = [vec![1; 40], vec![2; 30], vec![3; 90]].concat();
        assert_eq!(pull(&mut playout, 160), (second, 160, vec![2, 3], vec![1, 2]));
        let last = [vec![3; 10], vec![Law::Mu.silence(); 150]].concat();
        assert_eq!(pull(&mut playout, 160), (last, 10, vec![], vec![3]));
        assert!(playout.is_empty());
        assert_eq!(pull(&mut playout, 160), (vec![Law::Mu.silence(); 160], 0, vec![], vec![]));
        assert_eq!(playout.heard(1), Some(Duration::from_millis(25)));
        assert_eq!(playout.heard(9), None);
    }

    #[test]
    fn an_item_that_ran_empty_goes_on_without_starting_again() {
        let mut playout = Playout::new(Law::A);
        playout.push(1, &[1; 160]);
        assert_eq!(pull(&mut playout, 160), (vec![1; 160], 160, vec![1], vec![1]));
        playout.push(1, &[1; 80]);
        assert_eq!(pull(&mut playout, 80), (vec![1; 80], 80, vec![], vec![1]));
        assert_eq!(playout.heard(1), Some(Duration::from_millis(30)));
    }

    #[test]
    fn clear_names_only_items_that_lost_audio() {
        let mut playout = Playout::new(Law::Mu);
        playout.push(1, &[1; 160]);
        playout.push(2, &[2; 480]);
        playout.push(3, &[3; 50]);
        pull(&mut playout, 160);
        pull(&mut playout, 160);
        let mut cut = Vec::new();
        playout.clear(&mut cut);
        assert_eq!(
            cut,
            [
                CutBytes { item: 2, heard: 160, received: 480 },
                CutBytes { item: 3, heard: 0, received: 50 }
            ]
        );
        assert!(playout.is_empty());
        assert_eq!(playout.heard(2), Some(Duration::from_millis(20)), "what was heard stays known");
        cut.clear();
        playout.clear(&mut cut);
        assert_eq!(cut, []);
    }

    #[test]
    fn audio_beyond_the_bound_is_refused() {
        let mut playout = Playout::with_bound(Law::Mu, Duration::from_millis(100));
        assert_eq!(playout.push(1, &[1; 700]), 0);
        assert_eq!(playout.push(2, &[2; 300]), 200);
        assert_eq!(playout.push(2, &[2; 300]), 300);
        assert_eq!(playout.push(3, &[3; 10]), 10);
        assert_eq!(playout.queued(), Duration::from_millis(100));
        let mut cut = Vec::new();
        playout.clear(&mut cut);
        assert_eq!(cut[1], CutBytes { item: 2, heard: 0, received: 600 });
        assert_eq!(cut.len(), 2, "an item that never had audio queued lost none");
    }

    #[test]
    fn a_flood_of_items_is_refused_and_forgotten() {
        let mut playout = Playout::new(Law::Mu);
        let refused: usize = (0..5_000).map(|item| playout.push(item, &[0])).sum();
        assert_eq!(refused, 5_000 - MAX_STRETCHES);
        while !playout.is_empty() {
            pull(&mut playout, 160);
        }
        for item in 5_000..100_000 {
            assert_eq!(playout.push(item, &[0; 160]), 0);
            assert_eq!(pull(&mut playout, 160).2, [item]);
        }
        assert!(playout.accounts.len() <= KEPT_ACCOUNTS);
    }

    #[test]
    fn another_law_transcodes_what_is_queued() {
        let mut playout = Playout::new(Law::Mu);
        let mu: Vec<u8> = (0..=255).collect();
        playout.push(1, &mu);
        playout.set_law(Law::A);
        playout.push(1, &[Law::A.silence()]);
        let mut expected = mu;
        g711::transcode(Law::Mu, Law::A, &mut expected);
        expected.extend([Law::A.silence(); 4]);
        assert_eq!(pull(&mut playout, 260).0, expected);
    }

    #[test]
    fn frames_take_no_memory_and_a_long_burst_gives_it_back() {
        let mut playout = Playout::new(Law::Mu);
        playout.push(1, &vec![0; 4_000_000]);
        while !playout.is_empty() {
            pull(&mut playout, 160);
        }
        assert!(playout.bytes.capacity() <= 2 * KEPT_CAPACITY);
        let (bytes, stretches) = (playout.bytes.capacity(), playout.stretches.capacity());
        for item in 2..10_000 {
            playout.push(item, &[0; 160]);
            pull(&mut playout, 160);
        }
        assert_eq!((playout.bytes.capacity(), playout.stretches.capacity()), (bytes, stretches));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { item: u64, bytes: usize },
        Pull { bytes: usize },
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..3, 0usize..900).prop_map(|(item, bytes)| Step::Push { item, bytes }),
            8 => (0usize..500).prop_map(|bytes| Step::Pull { bytes }),
            1 => Just(Step::Clear),
        ];
        proptest::collection::vec(step, 0..120)
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_pulled_or_cut(steps in steps(), bound in 100u64..400) {
            let mut playout = Playout::with_bound(Law::Mu, Duration::from_millis(bound));
            // The reference: every byte carries its item. Bytes are told apart by a running number.
            let mut queued: VecDeque<(u64, u8)> = VecDeque::new();
            let (mut pushed, mut heard) = ([0usize; 300], [0usize; 300]);
            let (mut number, mut item) = (0u8, 0);
            for step in steps {
                match step {
                    Step::Push { item: further, bytes } => {
                        item += further; // Rising, and the same again now and then.
                        let audio: Vec<u8> = (0..bytes).map(|n| number.wrapping_add(n as u8)).collect();
                        number = number.wrapping_add(bytes as u8);
                        let room = (bound as usize * 8).saturating_sub(queued.len());
                        prop_assert_eq!(playout.push(item, &audio), bytes.saturating_sub(room));
                        queued.extend(audio.iter().take(room).map(|&byte| (item, byte)));
                        pushed[item as usize] += bytes;
                    }
                    Step::Pull { bytes } => {
                        let (frame, real, started, emptied) = pull(&mut playout, bytes);
                        let taken: Vec<(u64, u8)> = queued.drain(..bytes.min(queued.len())).collect();
                        prop_assert_eq!(real, taken.len());
                        prop_assert!(frame[..real].iter().eq(taken.iter().map(|(_, byte)| byte)));
                        prop_assert!(frame[real..].iter().all(|&byte| byte == Law::Mu.silence()));
                        let mut items: Vec<u64> = taken.iter().map(|(item, _)| *item).collect();
                        items.dedup();
                        let first: Vec<u64> = items.iter().copied().filter(|&item| heard[item as usize] == 0).collect();
                        let last: Vec<u64> =
                            items.iter().copied().filter(|&item| queued.iter().all(|(other, _)| *other != item)).collect();
                        prop_assert_eq!(started, first);
                        prop_assert_eq!(emptied, last);
                        taken.iter().for_each(|(item, _)| heard[*item as usize] += 1);
                    }
                    Step::Clear => {
                        let mut cut = Vec::new();
                        playout.clear(&mut cut);
                        let mut items: Vec<u64> = queued.drain(..).map(|(item, _)| item).collect();
                        items.dedup();
                        let expected: Vec<CutBytes> = items
                            .into_iter()
                            .map(|item| CutBytes {
                                item,
                                heard: heard[item as usize],
                                received: pushed[item as usize],
                            })
                            .collect();
                        prop_assert_eq!(cut, expected);
                    }
                }
                prop_assert_eq!(playout.queued(), SampleRate::Hz8000.duration_of(queued.len()));
                prop_assert_eq!(playout.is_empty(), queued.is_empty());
            }
        }
    }
}
