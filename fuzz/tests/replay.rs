//! The fuzz targets on a stable toolchain: seeds, and a fixed number of mutations of them.

use std::{
    fs,
    sync::mpsc::channel,
    time::{Duration, Instant, SystemTime},
};

use tandem_call::Tap;
use tandem_fuzz::{SEEDS_KEY, TARGETS, Target};
use tandem_media::{Codec, Encoder, OpusParams, SampleRate};
use tandem_recording::{
    Recorder, RecordingFormat, RecordingKey, RecordingOrder, RecordingSettings,
};

/// Mutations of each seed.
const MUTATIONS: u64 = 3_000;

const INVITE: &str = "INVITE sip:200@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7:5060;rport;branch=z9hG4bKa\r\nMax-Forwards: 70\r\nFrom: \"A \\\" B\" <sip:a@example.org;user=phone>;tag=1\r\nTo: <sip:200@192.0.2.1>\r\ni: x@y\r\nCSeq: 1 INVITE\r\nm: <sip:a@198.51.100.7>\r\nc: application/sdp\r\nl: 4\r\n\r\nv=0\n";
const RESPONSE: &str = "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bKb\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: z\r\nCSeq: 7 INVITE\r\nWarning: 304 x \"no\"\r\nContent-Length: 0\r\n\r\n";
const SDP: &str = "v=0\r\no=- 42 1 IN IP4 203.0.113.20\r\ns=-\r\nc=IN IP4 203.0.113.20\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendonly\r\nm=video 0 RTP/AVP 31\r\n";
const OPENAI: &str = r#"{"type":"session.created","session":{"type":"realtime"}}
{"type":"response.created","response":{"id":"resp_1"}}
{"type":"response.output_item.added","response_id":"resp_1","output_index":0,"item":{"id":"item_1","type":"message","role":"assistant","content":[]}}
{"type":"response.output_audio.delta","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"AAECAwQFBgc="}
{"type":"input_audio_buffer.speech_started","audio_start_ms":5,"item_id":"item_2"}
{"type":"response.function_call_arguments.done","response_id":"resp_1","item_id":"item_3","call_id":"call_1","name":"end_call","arguments":"{}"}
{"type":"response.done","response":{"id":"resp_1","status":"completed","output":[],"usage":{"total_tokens":1}}}"#;
const GEMINI: &str = r#"{"setupComplete":{}}
{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"mimeType":"audio/pcm;rate=24000","data":"AAECAwQFBgc="}}]},"outputTranscription":{"text":"Bye."}}}
{"serverContent":{"interrupted":true}}
{"toolCall":{"functionCalls":[{"id":"fc-1","name":"end_call","args":{"reason":"x"}}]}}
{"goAway":{"timeLeft":"50.5s"}}
{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":1}}"#;

const TOOL_ANSWER: &str = r#"{"status":"saved","message":"Done \u00fc.","n":1,"rows":[{"a":null},"x"],"end_call":true,"verbatim":true,"transfer":{"type":"extension","target":"200","mode":"attended"},"metadata":{"t":1}}"#;
const TOOL_ARGUMENTS: &str = r##"{"type":"object","required":["a"],"properties":{"a":{"type":"string","maxLength":9,"x-redact":true},"b":{"type":"integer","minimum":1},"c":{"type":"array","items":{"$ref":"#/$defs/d"}},"e":{"type":["string","null"],"enum":["x",null]}},"$defs":{"d":{"type":"object","properties":{"f":{"type":"number"}},"additionalProperties":false}},"additionalProperties":false}
{"a":"text","b":7,"c":[{"f":1.5,"g":2}],"e":null,"z":{"y":[]}}"##;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let text = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "sip_message" => text(&[INVITE, RESPONSE]),
        "sdp" => text(&[SDP]),
        "name_addr" => text(&[
            "\"A\" <sip:+49@b;user=phone?X=1>;tag=2",
            "sip:a@[2001:db8::1]:5060;transport=tcp",
        ]),
        "rtp" | "rtcp" | "leg" => {
            let mut packet =
                vec![0x90, 0x80, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 9, 9, 9, 9];
            packet.extend([0x55; 160]);
            let report = vec![
                0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2, 9, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0,
                0, 0, 0, 0, 0, 0,
            ];
            let mut stream = Vec::new();
            for datagram in [&packet, &report, &packet] {
                stream.push(datagram.len() as u8);
                stream.extend(datagram.iter());
            }
            vec![packet, report, stream]
        }
        "openai_realtime" => text(&[OPENAI]),
        "gemini_live" => text(&[GEMINI]),
        "websocket_frames" => {
            let masked = |opcode: u8, payload: &[u8]| {
                let mut frame = vec![opcode, 0x80 | payload.len() as u8, 1, 2, 3, 4];
                frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, m)| b ^ m));
                frame
            };
            let conversation = [
                masked(0x81, b"{\"uuid\":\"x\"}"),
                masked(0x82, &[7; 80]),
                masked(0x02, &[1; 9]),
                masked(0x89, b"ping"),
                masked(0x80, &[2; 9]),
                masked(0x88, &[3, 232]),
            ];
            vec![conversation.concat()]
        }
        "event_json" => text(&[
            r#"{"Event-Name":"DTMF","Unique-ID":"9d1e6a52-7f4c-4f0a-8a1b-0c5f7b1f2e11","DTMF-Digit":"5","list":["a","b"],"_body":"x"}"#,
        ]),
        "fork_metadata" => text(&[
            r#"{"uuid":"9d1e6a52-7f4c","did":"4930","caller":"+491","variables":{"a":"b","n":5}}|true|true|24000"#,
        ]),
        "crypto_attribute" => text(&[
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^31|1:4 WSH=64",
        ]),
        "handshake" => vec![(0..24).collect()],
        "fork_leg" => (0..2).map(|seed| bytes_of(seed, 200)).collect(),
        "opus" => (0..4).map(opus_packets).collect(),
        "g722" | "opus_encoder" | "l16" | "comfort_noise" | "concealer" => {
            (0..4).map(|seed| bytes_of(seed, 300)).collect()
        }
        "recording" | "sealed_recording" => {
            let sealed = target == "sealed_recording";
            [RecordingFormat::Wav, RecordingFormat::Ogg].map(|it| recorded(it, sealed)).to_vec()
        }
        "tool_answer" => [200_u16, 201, 302, 404, 401, 500]
            .iter()
            .map(|status| [&status.to_be_bytes()[..], TOOL_ANSWER.as_bytes()].concat())
            .collect(),
        "tool_arguments" => text(&[TOOL_ARGUMENTS]),
        "phone_number" => text(&["+49 (0)30 / 12.34-56", "tel:+1-305-555-1234;phone-context=x"]),
        "machine" => (0..8).map(|seed| bytes_of(seed, 400)).collect(),
        other => panic!("no seeds for {other}"),
    }
}

/// What the target reads: a rate, and packets of a tone with a byte for what becomes of them and one for their length.
fn opus_packets(choice: u8) -> Vec<u8> {
    let rate = [SampleRate::Hz8000, SampleRate::Hz48000][usize::from(choice % 2)];
    let params = OpusParams { fec: choice >= 2, ..OpusParams::DEFAULT };
    let mut encoder = Encoder::new(Codec::Opus(rate), &params).expect("there is memory");
    encoder.set_loss(0.1);
    let tone = |n: usize| ((n * 500 / rate.hz() % 2) as i16 * 2 - 1) * 9_000;
    let sound: Vec<i16> = (0..rate.hz() / 10).map(tone).collect();
    let mut bytes = vec![choice];
    for (what, sound) in sound.chunks_exact(rate.hz() / 50).enumerate() {
        let mut payload = Vec::new();
        encoder.encode(sound, &mut payload).expect("a packet time of Opus");
        payload.truncate(255);
        bytes.extend([what as u8 + 4, payload.len() as u8]);
        bytes.extend(payload);
    }
    bytes
}

/// A recording of 50 ms.
fn recorded(format: RecordingFormat, sealed: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let settings = RecordingSettings {
        folder: folder.path().to_owned(),
        format,
        rate: SampleRate::Hz8000,
        key: sealed.then(|| RecordingKey::parse(SEEDS_KEY).expect("it is a key")),
        keep_free: 0,
        ..RecordingSettings::default()
    };
    let begin = Instant::now();
    let order = RecordingOrder {
        call_id: format!("call_{:032x}", 1),
        settings,
        begin,
        started_at: SystemTime::now(),
        leg_rate: SampleRate::Hz8000,
    };
    let (done, report) = channel();
    let recorder = Recorder::start(1).expect("there are threads");
    let (mut recording, [mut caller, agent]) =
        recorder.begin(order, move |report| done.send(report).expect("somebody waits for it"));
    let sound: Vec<i16> = (0..400).map(|n| (n % 40) * 400 - 8_000).collect();
    caller.take_pcm(begin, SampleRate::Hz8000, &sound);
    recording.end(begin + Duration::from_millis(50));
    drop((recording, caller, agent));
    let path = report.recv().expect("it is reported").path.expect("it was written");
    fs::read(path).expect("it can be read")
}

fn bytes_of(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// Flips, cuts, doubles and inserts at random places.
fn mutate(seed: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..6) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = random.usize(..bytes.len());
        let end = (at + random.usize(..24)).min(bytes.len());
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes
                .insert(at, *b"\r\n\";:<>@=,\0\xFF{}[]9".get(random.usize(..18)).unwrap_or(&b' ')),
            4 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << random.u8(..8),
        }
    }
    bytes
}

#[test]
fn no_target_objects_to_seeds_and_their_mutations() {
    for (name, target) in TARGETS {
        let run: Target = (name, target);
        let mut random = fastrand::Rng::with_seed(7);
        for seed in seeds(run.0) {
            (run.1)(&seed);
            for _ in 0..MUTATIONS {
                (run.1)(&mutate(&seed, &mut random));
            }
        }
    }
}
