//! Every codec with a telephone that is not ours: baresip calls the real daemon, and our softphone calls baresip.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod common;

use std::{cell::RefCell, path::Path, time::Duration};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use tandem::softphone::{self, Action, CallPlan, Clip, Cue};
use tandem_media::{Codec, SampleRate};

use common::{
    Daemon,
    baresip::Baresip,
    installed,
    singer::{HEARD_RATE, Singer},
    tones_in, two_tones, wait_until,
};

/// Below this a tone is not there: -45 dB of what was sent.
const ABSENT: f64 = 34.0;

/// What a model is told of the digit 5.
const DIGIT: &str = "pressed the key 5 on";

/// A codec of ours and what baresip calls it.
struct Wire {
    codec: Codec,
    theirs: &'static str,
    /// Samples per second on baresip's side.
    rate: u32,
    channels: u16,
}

const fn wire(codec: Codec, theirs: &'static str, rate: u32, channels: u16) -> Wire {
    Wire { codec, theirs, rate, channels }
}

const PCMA: Wire = wire(Codec::PCMA, "PCMA/8000/1", 8_000, 1);
const G722: Wire = wire(Codec::G722, "G722/16000/1", 16_000, 1);
const OPUS: Wire = wire(Codec::Opus(SampleRate::Hz48000), "opus/48000/1", 48_000, 1);
const L16: Wire = wire(Codec::L16(SampleRate::Hz16000), "L16/16000/1", 16_000, 1);

/// Three seconds of both tones, as far as they fit, and silence for the rest of the call.
fn write_song(path: &Path, rate: u32, channels: u16) {
    let spec = WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = WavWriter::create(path, spec).unwrap();
    for n in 0..30 * rate {
        for _ in 0..channels {
            wav.write_sample(if n < 3 * rate { two_tones(n, rate) } else { 0 }).unwrap();
        }
    }
    wav.finalize().unwrap();
}

/// Both tones are there where the codec has room for both; else the upper one is not, not even folded.
fn check(what: &str, pcm: &[i16], rate: usize, wide: bool) {
    let [low, high] = tones_in(pcm, rate);
    assert!((4_000.0..8_000.0).contains(&low), "{what}: the tone at 1 kHz has {low:.0}");
    if wide {
        assert!((3_000.0..9_000.0).contains(&high), "{what}: the tone at 6 kHz has {high:.0}");
    } else if rate > 12_000 {
        assert!(high < ABSENT, "{what}: the tone at 6 kHz has {high:.0}");
    }
}

/// baresip calls the daemon, whose model takes 16 kHz.
fn the_daemon_is_called_in(wire: &Wire) {
    if !installed("baresip") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let singer = runtime.block_on(Singer::start()).unwrap();
    let daemon = Daemon::start(&format!(
        r#"
[sip]
codecs = ["pcmu", "pcma", "g722", "opus", "l16/16000"]
[models.fake]
provider = "gemini-live"
base_url = "ws://{}"
api_key_env = "TEST_MODEL_KEY"
[agents.reception]
model = "fake"
greeting = ""
[numbers]
"*" = "reception"
"#,
        singer.addr
    ));
    let folder = tempfile::tempdir().unwrap();
    let song = folder.path().join("song.wav");
    write_song(&song, wire.rate, wire.channels);
    let mut caller = Baresip::with_codec("caller", false, &song, wire.theirs);
    caller.command("dial", &format!("sip:13055551234@{}", daemon.sip));
    caller.wait_for_event("CALL_ESTABLISHED", "13055551234");
    let wide = wire.rate > 8_000;
    wait_until("the model to hear the caller", || {
        tones_in(&singer.heard(), HEARD_RATE)[0] > 4_000.0
    });
    wait_until("the caller to hear the model", || {
        caller.heard().first().is_some_and(|pcm| {
            eprintln!("{} {:?}", pcm.len(), tones_in(pcm, wire.rate as usize));
            tones_in(pcm, wire.rate as usize)[0] > 4_000.0
        })
    });
    check("uplink", &singer.heard(), HEARD_RATE, wide);
    check("downlink", &caller.heard()[0], wire.rate as usize, wide);
    // By telephone-event; the model is told of it in words, once, and does not hear it.
    caller.command("sndcode", "5");
    wait_until("the model to be told of the digit", || singer.messages_with(DIGIT) > 0);
    caller.command("hangup", "");
    let record = &daemon.wait_for_records(1)[0];
    let name = wire.codec.name();
    assert!(
        record["quality"]["codec"].as_str().is_some_and(|codec| codec.eq_ignore_ascii_case(name)),
        "{record}"
    );
    assert_eq!(record["end_reason"], "caller_hangup", "{record}");
    assert_eq!(record["quality"]["packets_lost"], 0, "{record}");
    assert_eq!(singer.messages_with(DIGIT), 1);
}

/// Our softphone calls baresip.
fn baresip_is_called_in(wire: &Wire) {
    if !installed("baresip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let song = folder.path().join("song.wav");
    write_song(&song, wire.rate, wire.channels);
    let called = Baresip::with_codec("called", true, &song, wire.theirs);
    let rate = wire.codec.rate();
    let pcm = (0..3 * rate.hz() as u32).map(|n| two_tones(n, rate.hz() as u32)).collect();
    let recording = folder.path().join("call.wav");
    let plan = CallPlan {
        target: format!("sip:called@127.0.0.1:{}", called.port).parse().unwrap(),
        from: "caller".into(),
        cues: vec![(Cue::At(Duration::from_millis(500)), Action::Play(Clip { rate, pcm }))],
        record: Some(recording.clone()),
        duration: Duration::from_secs(5),
        media_timeout: Duration::from_secs(5),
        credentials: None,
        headers: Vec::new(),
        // Others stand before it: the far side chooses.
        codecs: [Codec::PCMU, wire.codec].into(),
        srtp: None,
        local: None,
        ledger: None,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shown = RefCell::new(Vec::new());
    let report = runtime
        .block_on(softphone::call(plan, &|line| shown.borrow_mut().push(line.to_owned())))
        .unwrap();
    assert!(report.quality.codec.eq_ignore_ascii_case(wire.codec.name()), "{report:?} {shown:?}");
    let mut wav = WavReader::open(&recording).unwrap();
    assert_eq!(wav.spec().sample_rate as usize, rate.hz());
    let samples: Vec<i16> = wav.samples().collect::<Result<_, _>>().unwrap();
    let channel = |n: usize| -> Vec<i16> { samples.iter().skip(n).step_by(2).copied().collect() };
    let wide = rate > SampleRate::Hz8000;
    check("what we said", &channel(0), rate.hz(), wide);
    check("what we heard", &channel(1), rate.hz(), wide);
    check("what they heard", &called.heard()[0], wire.rate as usize, wide);
}

#[test]
fn a_narrow_call_in_a_law_has_no_more_than_the_telephone_band() {
    the_daemon_is_called_in(&PCMA);
    baresip_is_called_in(&PCMA);
}

#[test]
fn g722_carries_the_wide_band_both_ways() {
    the_daemon_is_called_in(&G722);
    baresip_is_called_in(&G722);
}

#[test]
fn opus_carries_the_wide_band_both_ways() {
    the_daemon_is_called_in(&OPUS);
    baresip_is_called_in(&OPUS);
}

#[test]
fn linear_audio_carries_the_wide_band_both_ways() {
    the_daemon_is_called_in(&L16);
    baresip_is_called_in(&L16);
}
