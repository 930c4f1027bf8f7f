//! The model's turn: which item speaks, what is stale, and when an answer is over.

use std::time::{Duration, Instant};

use tandem_call::{ItemId, ModelEvent, ModelSink, ResponseEnd};

/// Stale audio of a cut turn comes within moments; what comes later belongs to the next turn, even when the end of
/// the cut one was never announced.
const STALE: Duration = Duration::from_secs(2);

/// A cut of our own leaves the server speaking on: its turn ends by itself within this time.
const CUT_BY_US: Duration = Duration::from_secs(30);

/// A model that called a tool and says nothing for this long waits for the result.
const SETTLED: Duration = Duration::from_millis(500);

/// An answer announced as unfinished is over when nothing comes for this long.
const UNFINISHED: Duration = Duration::from_secs(30);

/// Transcript between two turns belongs to the next one if that begins in this time, else to the last one.
const EARLY_TEXT: Duration = Duration::from_secs(1);

/// Bytes of such transcript that are kept.
const MAX_EARLY_TEXT: usize = 16 << 10;

/// What a turn is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// More of it may come.
    Open,
    /// Its answer so far is over, for the model waits for a tool. What comes is another answer.
    Settled,
    /// All of it was generated. What still comes is no part of it.
    Complete,
    /// It was cut off.
    Cut { until: Instant },
}

#[derive(Debug)]
struct Turn {
    item: Option<ItemId>,
    state: State,
    spoke: bool,
}

/// The end of a turn as the server announced it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TurnEnd<'a> {
    /// `turnCompleteReason`, empty when absent.
    pub(super) reason: &'a str,
    /// The model waits for the caller on purpose.
    pub(super) waits: bool,
    /// `interactionStatus` says that more comes without the caller's doing.
    pub(super) unfinished: bool,
}

/// The turns of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    next: ItemId,
    turn: Option<Turn>,
    last_item: Option<ItemId>,
    /// An interruption without a turn: the empty turn it may belong to is no answer.
    cut_nothing: bool,
    settle_at: Option<Instant>,
    unfinished_until: Option<Instant>,
    /// Transcript that came between two turns, and until when it may wait.
    early: Option<(String, Instant)>,
}

impl Turns {
    pub(super) fn new(first: ItemId) -> Self {
        Self {
            next: first,
            turn: None,
            last_item: None,
            cut_nothing: false,
            settle_at: None,
            unfinished_until: None,
            early: None,
        }
    }

    pub(super) fn next_id(&self) -> ItemId {
        self.next
    }

    /// Uses no id below `first`.
    pub(super) fn start_at(&mut self, first: ItemId) {
        self.next = self.next.max(first);
    }

    /// A turn is open, whatever its state.
    pub(super) fn is_open(&self) -> bool {
        self.turn.is_some()
    }

    /// The item for audio that arrived now; none when it is stale.
    pub(super) fn speech(&mut self, now: Instant, sink: &mut dyn ModelSink) -> Option<ItemId> {
        let item = self.content(now, sink)?;
        if let Some(turn) = &mut self.turn {
            turn.spoke = true;
        }
        Some(item)
    }

    /// Transcript of what the model says; it may come before or after its audio.
    pub(super) fn text(&mut self, now: Instant, text: &str, sink: &mut dyn ModelSink) {
        let item = match &self.turn {
            Some(Turn { state: State::Complete, item: Some(item), .. }) => Some(*item),
            Some(Turn { state: State::Open | State::Cut { .. }, .. }) => self.content(now, sink),
            // Between two answers: which one it belongs to will show.
            None | Some(Turn { state: State::Settled | State::Complete, .. }) => {
                let (early, _) =
                    self.early.get_or_insert_with(|| (String::new(), now + EARLY_TEXT));
                if early.len() + text.len() <= MAX_EARLY_TEXT {
                    early.push_str(text);
                }
                return;
            }
        };
        if let Some(item) = item {
            sink.event(ModelEvent::AgentText { item, text: text.to_owned() });
        }
    }

    /// A tool call arrived: the model is at work, with or without words.
    pub(super) fn tool_call(&mut self, now: Instant, sink: &mut dyn ModelSink) {
        if self.stale(now) {
            return;
        }
        if self.turn.is_none() {
            self.begin(sink);
        }
        self.settle_at = Some(now + SETTLED);
    }

    /// All calls are answered: the model goes on in the same turn.
    pub(super) fn tools_answered(&mut self) {
        self.settle_at = None;
    }

    /// `generationComplete`.
    pub(super) fn generated(&mut self, sink: &mut dyn ModelSink) {
        self.settle_at = None;
        if let Some(turn) = &mut self.turn {
            if turn.state == State::Open {
                sink.event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
            }
            if matches!(turn.state, State::Open | State::Settled) {
                turn.state = State::Complete;
            }
        }
    }

    /// `interrupted`: the caller spoke.
    pub(super) fn interrupted(&mut self, now: Instant, sink: &mut dyn ModelSink) {
        self.settle_at = None;
        self.unfinished_until = None;
        sink.event(ModelEvent::SpeechStarted);
        match &mut self.turn {
            None => self.cut_nothing = true,
            Some(turn) => {
                if turn.state == State::Open {
                    sink.event(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
                }
                turn.state = State::Cut { until: now + STALE };
            }
        }
    }

    /// We cut the answer off; there is no message for that, so the rest of it is not heard.
    pub(super) fn cancel(&mut self, now: Instant) -> Option<ModelEvent> {
        self.settle_at = None;
        self.unfinished_until = None;
        let turn = self.turn.as_mut()?;
        let was_open = turn.state == State::Open;
        if matches!(turn.state, State::Open | State::Settled) {
            turn.state = State::Cut { until: now + CUT_BY_US };
        }
        was_open.then_some(ModelEvent::ResponseEnded(ResponseEnd::Cancelled))
    }

    /// `turnComplete`.
    pub(super) fn complete(&mut self, now: Instant, end: TurnEnd<'_>, sink: &mut dyn ModelSink) {
        self.settle_at = None;
        let cut_nothing = std::mem::take(&mut self.cut_nothing);
        match self.turn.take() {
            Some(turn) if end.unfinished && turn.state == State::Open => {
                // What follows is another stretch of speech of the same answer.
                self.unfinished_until = Some(now + UNFINISHED);
                self.turn = Some(Turn { item: None, ..turn });
            }
            Some(Turn { state: State::Open, spoke, .. }) => {
                self.unfinished_until = None;
                sink.event(ModelEvent::ResponseEnded(how_it_ended(end.reason, spoke)));
            }
            Some(_) => self.unfinished_until = None,
            None if cut_nothing || end.waits || end.unfinished => {}
            None => {
                // An empty turn: whoever waits for an answer must learn that none comes.
                sink.event(ModelEvent::ResponseStarted);
                sink.event(ModelEvent::ResponseEnded(how_it_ended(end.reason, false)));
            }
        }
    }

    /// The model says by itself that it is idle.
    pub(super) fn idle(&mut self, sink: &mut dyn ModelSink) {
        if self.unfinished_until.take().is_some()
            && self.turn.take_if(|turn| turn.state == State::Open).is_some()
        {
            sink.event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        }
    }

    /// Anything came from the server.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(until) = &mut self.unfinished_until {
            *until = now + UNFINISHED;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let early = self.early.as_ref().map(|(_, until)| *until);
        [self.settle_at, self.unfinished_until, early].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, sink: &mut dyn ModelSink) {
        if self.settle_at.is_some_and(|at| at <= now) {
            self.wait_for_tools(sink);
        }
        if self.unfinished_until.is_some_and(|until| until <= now) {
            self.idle(sink);
        }
        if let Some((text, _)) = self.early.take_if(|(_, until)| *until <= now)
            && let Some(item) = self.last_item
        {
            sink.event(ModelEvent::AgentText { item, text });
        }
    }

    /// The model waits for the results of its calls: the answer so far is over.
    pub(super) fn wait_for_tools(&mut self, sink: &mut dyn ModelSink) {
        self.settle_at = None;
        if let Some(turn) = &mut self.turn
            && turn.state == State::Open
        {
            turn.state = State::Settled;
            self.unfinished_until = None;
            sink.event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        }
    }

    /// Content at `now` would belong to a turn that was cut.
    fn stale(&mut self, now: Instant) -> bool {
        match self.turn {
            Some(Turn { state: State::Cut { until }, .. }) if now < until => true,
            Some(Turn { state: State::Cut { .. }, .. }) => {
                self.turn = None;
                false
            }
            _ => false,
        }
    }

    fn content(&mut self, now: Instant, sink: &mut dyn ModelSink) -> Option<ItemId> {
        if self.stale(now) {
            return None;
        }
        match &self.turn {
            Some(Turn { state: State::Complete, .. }) => return None,
            Some(Turn { state: State::Settled, .. }) | None => self.begin(sink),
            Some(_) => {}
        }
        if let Some(at) = &mut self.settle_at {
            *at = now + SETTLED;
        }
        let turn = self.turn.as_mut()?;
        let next = &mut self.next;
        let item = *turn.item.get_or_insert_with(|| {
            let item = *next;
            next.0 += 1;
            item
        });
        self.last_item = Some(item);
        if let Some((text, _)) = self.early.take() {
            sink.event(ModelEvent::AgentText { item, text });
        }
        Some(item)
    }

    fn begin(&mut self, sink: &mut dyn ModelSink) {
        self.cut_nothing = false;
        self.turn = Some(Turn { item: None, state: State::Open, spoke: false });
        sink.event(ModelEvent::ResponseStarted);
    }
}

/// `turnCompleteReason` is an open list; what it means depends on whether anything was said.
fn how_it_ended(reason: &str, spoke: bool) -> ResponseEnd {
    match reason {
        "" | "NEED_MORE_INPUT" | "TURN_COMPLETE_REASON_UNSPECIFIED" => ResponseEnd::Completed,
        reason if spoke => ResponseEnd::Incomplete(reason.to_owned()),
        reason => ResponseEnd::Failed(reason.to_owned()),
    }
}
