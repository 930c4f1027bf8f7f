//! Long silence: a little of it at a time, so that memory is bounded and other recordings have their turns.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

impl Studio {
    /// A turn, which is short whatever there is to do.
    fn turn(&mut self, at: Duration) -> Turn {
        let rate = self.take.job.order.settings.rate;
        let before = self.take.file.frames;
        let turn = self.take.pump(self.begin + at);
        let frames = self.take.file.frames - before;
        assert!(frames <= rate.hz() as u64, "{frames} frames in a turn at {at:?}");
        assert!(self.take.file.waiting.len() <= 8 * rate.hz(), "what waits is written soon");
        turn
    }

    /// The turns that all that is to be done at an instant takes.
    fn turns(&mut self, at: Duration) -> (usize, Turn) {
        let mut count = 1;
        loop {
            let turn = self.turn(at);
            if turn != Turn::More {
                return (count, turn);
            }
            count += 1;
        }
    }
}

#[test]
fn an_hour_of_pause_is_written_while_it_passes() {
    let rate = SampleRate::Hz8000;
    let mut studio = Studio::open(settings(rate), rate, MemoryDisk::new(1 << 27));
    studio.talk(Duration::ZERO, rate, 5_000);
    assert!(studio.recording.as_mut().unwrap().pause(studio.begin + 20 * MS));
    let hour = 3_600 * SECOND;
    for tick in 1..=36_000 {
        let at = tick * 100 * MS;
        assert_eq!(studio.turn(at), Turn::Done);
        let written = rate.duration_of(studio.take.file.frames as usize);
        assert!(written + QUIET >= at, "{written:?} at {at:?}");
    }
    assert!(studio.recording.as_mut().unwrap().resume(studio.begin + hour));
    studio.talk(hour, rate, 5_000);
    studio.recording.as_mut().unwrap().end(studio.begin + hour + 20 * MS);
    let (turns, turn) = studio.turns(hour + 100 * MS);
    assert!(turn == Turn::Over && turns <= 7, "{turns} turns");
    let report = studio.reports.try_recv().unwrap();
    assert_eq!((report.duration, report.paused), (hour + 20 * MS, hour - 20 * MS));
    assert_eq!(report.dropped, Duration::ZERO);
    let frames = frames(&studio.disk.contents());
    assert_eq!(frames.len(), (3_600 * 50 + 1) * 160);
    let (head, rest) = frames.split_at(160);
    let (pause, tail) = rest.split_at(frames.len() - 320);
    assert!(head.iter().chain(tail).flatten().all(|sample| *sample != 0));
    assert!(pause.iter().flatten().all(|sample| *sample == 0));
}

#[test]
fn a_writer_that_stood_still_catches_up_in_short_turns() {
    for format in [RecordingFormat::Wav, RecordingFormat::Ogg] {
        let rate = SampleRate::Hz8000;
        let settings = RecordingSettings { format, ..settings(rate) };
        let mut studio = Studio::open(settings, rate, MemoryDisk::new(1 << 22));
        studio.talk(Duration::ZERO, rate, 5_000);
        assert!(studio.recording.as_mut().unwrap().pause(studio.begin + 20 * MS));
        // A minute later there is a piece, and after another one the end.
        assert!(studio.recording.as_mut().unwrap().resume(studio.begin + 60 * SECOND));
        studio.talk(60 * SECOND, rate, 5_000);
        let (turns, turn) = studio.turns(61 * SECOND);
        assert!(turn == Turn::Done && turns >= 55, "{turns} turns");
        studio.recording.as_mut().unwrap().end(studio.begin + 120 * SECOND);
        let (turns, turn) = studio.turns(120 * SECOND);
        assert!(turn == Turn::Over && turns >= 55, "{turns} turns");
        let report = studio.reports.try_recv().unwrap();
        assert_eq!((report.duration, report.dropped), (120 * SECOND, Duration::ZERO));
    }
}

#[test]
fn a_side_that_falls_silent_loses_nothing_of_its_end() {
    let mut studio =
        Studio::open(settings(SampleRate::Hz16000), SampleRate::Hz8000, MemoryDisk::new(1 << 22));
    studio.talk(Duration::ZERO, SampleRate::Hz8000, 5_000);
    for tick in 1..=300 {
        assert_eq!(studio.turn(tick * 100 * MS), Turn::Done);
    }
    studio.talk(30 * SECOND, SampleRate::Hz8000, 5_000);
    let (report, file) = studio.end(30 * SECOND + 20 * MS);
    assert_eq!((report.duration, report.dropped), (30 * SECOND + 20 * MS, Duration::ZERO));
    assert_eq!(frames(&file).len(), 30 * 16_000 + 320);
}
