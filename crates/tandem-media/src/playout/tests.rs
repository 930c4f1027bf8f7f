use proptest::prelude::*;

use super::*;
use crate::Law;

const MU: AudioFormat = AudioFormat::G711(Law::Mu);
const A: AudioFormat = AudioFormat::G711(Law::A);

/// How long samples at 8 kHz last.
fn samples(samples: usize) -> Duration {
    SampleRate::Hz8000.duration_of(samples)
}

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
    let mut playout = Playout::new(MU);
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
    let mut playout = Playout::new(A);
    playout.push(1, &[1; 160]);
    assert_eq!(pull(&mut playout, 160), (vec![1; 160], 160, vec![1], vec![1]));
    playout.push(1, &[1; 80]);
    assert_eq!(pull(&mut playout, 80), (vec![1; 80], 80, vec![], vec![1]));
    assert_eq!(playout.heard(1), Some(Duration::from_millis(30)));
}

#[test]
fn clear_names_only_items_that_lost_audio() {
    let mut playout = Playout::new(MU);
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
            CutAudio { item: 2, heard: samples(160), received: samples(480) },
            CutAudio { item: 3, heard: samples(0), received: samples(50) }
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
    let mut playout = Playout::with_bound(MU, Duration::from_millis(100));
    assert_eq!(playout.push(1, &[1; 700]), 0);
    assert_eq!(playout.push(2, &[2; 300]), 200);
    assert_eq!(playout.push(2, &[2; 300]), 300);
    assert_eq!(playout.push(3, &[3; 10]), 10);
    assert_eq!(playout.queued(), Duration::from_millis(100));
    let mut cut = Vec::new();
    playout.clear(&mut cut);
    assert_eq!(cut[1], CutAudio { item: 2, heard: samples(0), received: samples(600) });
    assert_eq!(cut.len(), 2, "an item that never had audio queued lost none");
}

#[test]
fn a_flood_of_items_is_refused_and_forgotten() {
    let mut playout = Playout::new(MU);
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
    let mut playout = Playout::new(MU);
    let mu: Vec<u8> = (0..=255).collect();
    playout.push(1, &mu);
    playout.set_format(A);
    playout.push(1, &[Law::A.silence()]);
    let mut expected = mu;
    g711::transcode(Law::Mu, Law::A, &mut expected);
    expected.extend([Law::A.silence(); 4]);
    assert_eq!(pull(&mut playout, 260).0, expected);
}

#[test]
fn another_rate_keeps_the_account_of_an_item_in_its_middle() {
    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];
    for (from, to) in RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to))) {
        let (from, to) = (AudioFormat::Pcm16(from), AudioFormat::Pcm16(to));
        let bytes = |format: AudioFormat, ms: u64| format.bytes_per(Duration::from_millis(ms));
        let mut playout = Playout::new(from);
        playout.push(1, &vec![1; bytes(from, 200)]);
        playout.push(2, &vec![1; bytes(from, 100)]);
        pull(&mut playout, bytes(from, 60));
        playout.set_format(to);
        assert_eq!(playout.queued(), Duration::from_millis(240), "{from:?} to {to:?}");
        playout.push(2, &vec![1; bytes(to, 40)]);
        let (mut heard, mut pulled) = (60, Vec::new());
        while !playout.is_empty() {
            heard += 20;
            let (_, _, _, emptied) = pull(&mut playout, bytes(to, 20));
            pulled.extend(emptied.into_iter().map(|item| (heard, item)));
        }
        assert_eq!(pulled, [(200, 1), (340, 2)], "{from:?} to {to:?}");
        assert_eq!(playout.heard(1), Some(Duration::from_millis(200)));
        assert_eq!(playout.heard(2), Some(Duration::from_millis(140)));
    }
}

#[test]
fn a_stretch_too_short_for_the_new_rate_keeps_a_sample() {
    let wide = AudioFormat::Pcm16(SampleRate::Hz48000);
    let mut playout = Playout::new(wide);
    for item in 0..20 {
        playout.push(item, &[1, 0]);
    }
    playout.set_format(MU);
    assert_eq!(playout.queued(), samples(20));
    assert_eq!(pull(&mut playout, 160).3, (0..20).collect::<Vec<_>>());
    assert_eq!(playout.heard(3), Some(wide.duration_of(2)), "no more than there was");
}

#[test]
fn peeking_takes_nothing() {
    let mut playout = Playout::new(MU);
    playout.push(1, &[1; 100]);
    let mut frame = [0; 160];
    assert_eq!((playout.peek(&mut frame), frame[99], frame[100]), (100, 1, Law::Mu.silence()));
    assert_eq!(playout.next_item(), Some(1));
    assert_eq!(pull(&mut playout, 160).1, 100);
    assert_eq!(playout.next_item(), None);
}

#[test]
fn half_a_sample_is_not_queued() {
    let mut playout =
        Playout::with_bound(AudioFormat::Pcm16(SampleRate::Hz16000), Duration::from_millis(1));
    assert_eq!(playout.push(1, &[1; 33]), 1);
    assert_eq!(playout.queued(), Duration::from_millis(1));
}

#[test]
fn frames_take_no_memory_and_a_long_burst_gives_it_back() {
    let mut playout = Playout::new(MU);
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
        let mut playout = Playout::with_bound(MU, Duration::from_millis(bound));
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
                    let expected: Vec<CutAudio> = items
                        .into_iter()
                        .map(|item| CutAudio {
                            item,
                            heard: samples(heard[item as usize]),
                            received: samples(pushed[item as usize]),
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
