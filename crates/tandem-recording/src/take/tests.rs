//! Recordings on virtual time, from the leg to the bytes of the file.

mod hour;
mod silence;

use std::{
    sync::{Mutex, mpsc},
    time::SystemTime,
};

use tandem_call::Tap;
use tandem_media::{AudioFormat, SampleRate};

use super::*;
use crate::{
    Channels, Ear, Recording, RecordingFormat, RecordingKey, RecordingSettings, ring::ring, unseal,
    wav,
};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A disk in memory with so much room.
#[derive(Clone)]
pub(crate) struct MemoryDisk {
    pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
    room: usize,
    error: io::ErrorKind,
}

impl MemoryDisk {
    pub(crate) fn new(room: usize) -> Self {
        Self { bytes: Arc::default(), room, error: io::ErrorKind::StorageFull }
    }

    fn contents(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }
}

impl Disk for MemoryDisk {
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut file = self.bytes.lock().unwrap();
        let end = at as usize + bytes.len();
        // A full disk takes what has room before it says so.
        let length = file.len().max(end.min(self.room));
        file.resize(length, 0);
        let kept = bytes.len().min(length.saturating_sub(at as usize));
        file[at as usize..][..kept].copy_from_slice(&bytes[..kept]);
        if kept < bytes.len() { Err(self.error.into()) } else { Ok(()) }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().truncate(length as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> Option<u64> {
        Some((self.room - self.bytes.lock().unwrap().len()) as u64)
    }
}

/// A recording, its ears and its writer on one virtual clock.
pub(crate) struct Studio {
    pub(crate) begin: Instant,
    pub(crate) recording: Option<Recording>,
    pub(crate) ears: Option<[Box<Ear>; 2]>,
    take: Take,
    pub(crate) disk: MemoryDisk,
    reports: mpsc::Receiver<RecordingReport>,
}

impl Studio {
    pub(crate) fn open(
        settings: RecordingSettings,
        leg_rate: SampleRate,
        disk: MemoryDisk,
    ) -> Self {
        let begin = Instant::now() + Duration::from_secs(3_600);
        let shared = Arc::new(Shared::default());
        let (heard, caller) = ring(leg_rate);
        let (sent, agent) = ring(leg_rate);
        let ears = [heard, sent].map(|it| Box::new(Ear::new(begin, it, Arc::clone(&shared))));
        let recording = Some(Recording::new(begin, Arc::clone(&shared)));
        let started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let call_id = "call_1".to_owned();
        let order = RecordingOrder { call_id, settings, begin, started_at, leg_rate };
        let (done, reports) = mpsc::channel();
        let done = Box::new(move |report| done.send(report).unwrap());
        let job = Job { id: "rec_1".into(), order, caller, agent, shared, done };
        let take = Take::begin(begin, job, Box::new(disk.clone()), None).unwrap();
        Self { begin, recording, ears: Some(ears), take, disk, reports }
    }

    pub(crate) fn pump(&mut self, at: Duration) -> bool {
        self.take.pump(self.begin + at) == Turn::Over
    }

    /// 20 ms of both sides at `level`.
    fn talk(&mut self, at: Duration, rate: SampleRate, level: i16) {
        let pcm: Vec<i16> =
            (0..rate.hz() / 50).map(|n| if n % 2 == 0 { level } else { -level }).collect();
        for ear in self.ears.as_mut().unwrap() {
            ear.take_pcm(self.begin + at, rate, &pcm);
        }
    }

    pub(crate) fn end(&mut self, at: Duration) -> (RecordingReport, Vec<u8>) {
        if let Some(recording) = &mut self.recording {
            recording.end(self.begin + at);
        }
        while !self.pump(at) {}
        (self.reports.try_recv().unwrap(), std::mem::take(&mut *self.disk.bytes.lock().unwrap()))
    }
}

pub(crate) fn settings(rate: SampleRate) -> RecordingSettings {
    RecordingSettings { rate, keep_free: 0, ..RecordingSettings::default() }
}

/// The frames of a WAV file, whose header tells the truth.
pub(crate) fn frames(file: &[u8]) -> Vec<[i16; 2]> {
    let (_, channels, bytes) = wav::read_header(file).unwrap();
    assert_eq!((channels, bytes), (Channels::Stereo, Some(file.len() as u64 - 44)));
    let samples = file[44..].as_chunks::<4>().0.iter();
    samples
        .map(|it| [i16::from_le_bytes([it[0], it[1]]), i16::from_le_bytes([it[2], it[3]])])
        .collect()
}

#[test]
fn the_file_can_be_played_at_every_instant() {
    let mut studio =
        Studio::open(settings(SampleRate::Hz16000), SampleRate::Hz8000, MemoryDisk::new(1 << 20));
    assert!(frames(&studio.disk.contents()).is_empty());
    for n in 0..200 {
        let at = n * 20 * MS;
        studio.talk(at, SampleRate::Hz8000, 1_000);
        if n % 5 == 4 {
            assert!(!studio.pump(at + 20 * MS));
            let there = frames(&studio.disk.contents()).len();
            let due = (at + 20 * MS).as_millis() as usize * 16;
            assert!(there + 16_000 + 40 >= due, "{there} frames of {due} at {at:?}");
        }
    }
    let (report, file) = studio.end(4_000 * MS);
    assert_eq!((report.end, report.duration), (RecordingEnd::CallEnded, 4_000 * MS));
    assert_eq!((report.size_bytes, report.dropped), (file.len() as u64, Duration::ZERO));
    assert_eq!(frames(&file).len(), 64_000);
}

#[test]
fn a_pause_is_silence_of_the_right_length() {
    let rate = SampleRate::Hz8000;
    let mut studio = Studio::open(settings(rate), rate, MemoryDisk::new(1 << 20));
    for n in 0..200 {
        let now = studio.begin + n * 20 * MS;
        let recording = studio.recording.as_mut().unwrap();
        match n {
            50 => assert!(recording.pause(now) && !recording.pause(now)),
            150 => assert!(recording.resume(now) && !recording.resume(now)),
            _ => {}
        }
        studio.talk(n * 20 * MS, rate, 5_000);
        studio.pump(n * 20 * MS);
    }
    let (report, file) = studio.end(4_000 * MS);
    let frames = frames(&file);
    assert_eq!((frames.len(), report.paused), (32_000, 2_000 * MS));
    let sounds = |from: usize, to: usize| frames[from..to].iter().flatten().all(|it| *it != 0);
    assert!(sounds(0, 8_000) && sounds(24_000, 32_000));
    assert!(frames[8_000..24_000].iter().flatten().all(|it| *it == 0));
}

#[test]
fn a_full_disk_ends_the_recording_and_leaves_what_was_there() {
    let rate = SampleRate::Hz8000;
    let sealed = RecordingSettings {
        key: Some(RecordingKey::parse(&"7".repeat(64)).unwrap()),
        ..settings(rate)
    };
    for settings in [settings(rate), sealed] {
        // Room for two seconds and a bit: 32 kB a second.
        let mut studio = Studio::open(settings.clone(), rate, MemoryDisk::new(80_000));
        let mut over_at = None;
        for n in 0..300 {
            studio.talk(n * 20 * MS, rate, 5_000);
            if over_at.is_none() && studio.pump(n * 20 * MS) {
                over_at = Some(n * 20);
            }
        }
        assert!((2_900..3_300).contains(&over_at.unwrap()), "over after {over_at:?} ms");
        let report = studio.reports.try_recv().unwrap();
        assert_eq!(report.end, RecordingEnd::DiskFull);
        assert!(report.error.is_some());
        let mut file = studio.disk.contents();
        assert_eq!(report.size_bytes, file.len() as u64);
        if let Some(key) = &settings.key {
            let mut out = Vec::new();
            assert!(!unseal(&mut file.as_slice(), key, &mut out).unwrap().complete);
            let length = out.len() as u64 - 44;
            out[..44].copy_from_slice(&wav::header(rate, Channels::Stereo, Some(length)));
            file = out;
        }
        let frames = frames(&file);
        assert_eq!(rate.duration_of(frames.len()), report.duration);
        assert!((1_900 * MS..2_100 * MS).contains(&report.duration), "{:?}", report.duration);
        assert!(frames.iter().flatten().all(|it| *it != 0));
        assert!(studio.recording.as_mut().unwrap().pause(studio.begin), "the call goes on");
    }
}

#[test]
fn a_disk_is_not_filled_to_the_last_byte() {
    let rate = SampleRate::Hz8000;
    let settings = RecordingSettings { keep_free: 100_000, ..settings(rate) };
    let mut studio = Studio::open(settings, rate, MemoryDisk::new(150_000));
    let over = (0..300).any(|n| {
        studio.talk(n * 20 * MS, rate, 5_000);
        studio.pump(n * 20 * MS)
    });
    assert!(over);
    let report = studio.reports.try_recv().unwrap();
    assert_eq!(report.end, RecordingEnd::DiskFull);
    assert!(report.error.unwrap().contains("left on the disk"));
    let length = frames(&studio.disk.contents()).len();
    assert_eq!(rate.duration_of(length), report.duration);
    assert!((8_000..33_000).contains(&length), "{length}");
}

#[test]
fn a_recording_whose_call_vanished_comes_to_its_end() {
    let rate = SampleRate::Hz16000;
    let mut studio = Studio::open(settings(rate), rate, MemoryDisk::new(1 << 20));
    for n in 0..10 {
        studio.talk(n * 20 * MS, rate, 5_000);
    }
    assert!(!studio.pump(200 * MS));
    (studio.ears, studio.recording) = (None, None);
    let (report, file) = studio.end(300 * MS);
    assert_eq!((report.end, report.duration), (RecordingEnd::CallEnded, 200 * MS));
    assert_eq!(frames(&file).len(), 3_200);
}

#[test]
fn opus_keeps_sides_apart_and_every_sample() {
    let rate = SampleRate::Hz16000;
    let settings = RecordingSettings { format: RecordingFormat::Ogg, ..settings(rate) };
    let mut studio = Studio::open(settings, rate, MemoryDisk::new(1 << 20));
    // The caller alone, 400 Hz, for 2.01 s.
    for n in 0..201 {
        let pcm: Vec<i16> = (0..160)
            .map(|i| {
                let phase = (n * 160 + i) as f64 / 16_000.0 * 400.0 * std::f64::consts::TAU;
                (8_000.0 * phase.sin()) as i16
            })
            .collect();
        let at = studio.begin + n * 10 * MS;
        studio.ears.as_mut().unwrap()[0].take_pcm(at, rate, &pcm);
        studio.pump(n * 10 * MS);
    }
    let (report, file) = studio.end(2_010 * MS);
    assert_eq!(report.duration, 2_010 * MS);
    let [left, right] = decode(&file);
    assert_eq!((left.len(), right.len()), (2_010 * 48, 2_010 * 48));
    let leak = right.iter().map(|sample| sample.unsigned_abs()).max();
    assert!(leak <= Some(2), "{leak:?} of 8000 is heard on the other side");
    // It lies where it was: the correlation with the tone is highest at no shift.
    let wanted = |n: usize| (n as f64 / 48_000.0 * 400.0 * std::f64::consts::TAU).sin();
    let fit = |shift: usize| -> f64 {
        (4_800..90_000).map(|n| f64::from(left[n + shift]) * wanted(n)).sum()
    };
    let best = (0..60).max_by(|a, b| fit(*a).total_cmp(&fit(*b))).unwrap();
    assert!(best <= 2 || best >= 118, "shifted by {best} samples at 48 kHz");
}

/// Both channels of an Ogg/Opus file of ours at 48 kHz, as RFC 7845 has it played.
fn decode(file: &[u8]) -> [Vec<i16>; 2] {
    let (mut packets, mut end, mut rest) = (Vec::new(), 0, 0);
    while let Some(page) = crate::ogg::read_page(&file[rest..]) {
        let bytes = &file[rest..rest + page.length];
        let count = usize::from(bytes[26]);
        let mut body = &bytes[27 + count..];
        let mut packet = Vec::new();
        for &length in &bytes[27..27 + count] {
            let (part, later) = body.split_at(length.into());
            packet.extend_from_slice(part);
            body = later;
            if length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        (end, rest) = (page.granule, rest + page.length);
    }
    assert_eq!(rest, file.len());
    let pre_skip = usize::from(u16::from_le_bytes([packets[0][10], packets[0][11]]));
    let mut decoder = opus::MSDecoder::new(48_000, 2, 0, &[0, 1]).unwrap();
    let mut pcm = Vec::new();
    for packet in &packets[2..] {
        let mut out = vec![0; 2 * 960];
        assert_eq!(decoder.decode(packet, &mut out, false).unwrap(), 960);
        pcm.extend(out);
    }
    let heard = &pcm[2 * pre_skip..2 * end as usize];
    [0, 1].map(|side| heard.iter().skip(side).step_by(2).copied().collect())
}

#[test]
fn formats_of_the_leg_may_change() {
    let mut studio =
        Studio::open(settings(SampleRate::Hz16000), SampleRate::Hz8000, MemoryDisk::new(1 << 20));
    for n in 0..100 {
        let rate = if n < 50 { SampleRate::Hz8000 } else { SampleRate::Hz16000 };
        studio.talk(n * 20 * MS, rate, 0);
        let ears = studio.ears.as_mut().unwrap();
        ears[1].take_bytes(studio.begin, AudioFormat::Pcm16(rate), &[]);
        studio.pump(n * 20 * MS);
    }
    let (report, file) = studio.end(2_000 * MS);
    assert_eq!((report.duration, report.dropped), (2_000 * MS, Duration::ZERO));
    assert_eq!(frames(&file).len(), 32_000);
}

#[test]
fn a_file_as_long_as_it_may_be_is_whole() {
    let rate = SampleRate::Hz8000;
    let key = RecordingKey::parse(&"7".repeat(64)).unwrap();
    for key in [None, Some(key)] {
        let settings = RecordingSettings { key: key.clone(), ..settings(rate) };
        let mut studio = Studio::open(settings, rate, MemoryDisk::new(1 << 20));
        // There is room for half a second and a bit.
        let Container::Wav { bytes, .. } = &mut studio.take.file.container else { unreachable!() };
        *bytes = wav::MOST - 17_000;
        let over = (0..300).any(|n| {
            studio.talk(n * 20 * MS, rate, 5_000);
            studio.pump(n * 20 * MS)
        });
        assert!(over);
        let report = studio.reports.try_recv().unwrap();
        assert_eq!(report.end, RecordingEnd::TooLong);
        assert!((500 * MS..532 * MS).contains(&report.duration), "{:?}", report.duration);
        let mut file = studio.disk.contents();
        assert_eq!(report.size_bytes, file.len() as u64);
        if let Some(key) = &key {
            let mut out = Vec::new();
            assert!(unseal(&mut file.as_slice(), key, &mut out).unwrap().complete);
            let length = out.len() as u64 - 44;
            out[..44].copy_from_slice(&wav::header(rate, Channels::Stereo, Some(length)));
            file = out;
        }
        let frames = frames(&file);
        assert_eq!(rate.duration_of(frames.len()), report.duration);
        assert!(frames.iter().flatten().all(|sample| *sample != 0));
    }
}
