//! Commands on their way: what waits, what is on the wire, what runs in the background, what outlasts an outage.

use std::time::{Duration, Instant};

use super::{Link, LinkEvent, Phase, Ticket, start::Step};
use crate::{
    ChannelUuid, EventHeaders, Reply, SwitchCommand, SwitchError,
    command::{ReplyForm, Travel},
    esl::{Frame, FrameKind},
};

/// Most commands that wait to be written.
const MAX_WAITING: usize = 256;
/// Most commands kept during an outage, and their bytes: a hang-up and the variables of each of a thousand calls.
const MAX_KEPT: usize = 2048;
const MAX_KEPT_BYTES: usize = 16 << 20;
/// How long a command is kept during an outage.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Most commands on the wire without a reply. Few, so that little is in doubt when the connection is lost.
const WINDOW: usize = 32;
/// Nothing more is written while so much waits for the socket.
const MAX_OUT: usize = 256 << 10;
/// How long a reply that is overdue is waited for, to be swallowed, before the connection is given up.
const GRACE: Duration = Duration::from_secs(5);

/// One command or question of ours, as bytes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) what: What,
    /// When it is no longer worth writing, and an order is given up.
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) enum What {
    Step(Step),
    Order(Order),
    /// Its reply is overdue: given up, and swallowed when it comes.
    Overdue,
}

#[derive(Debug)]
pub(super) struct Order {
    ticket: Ticket,
    form: ReplyForm,
    /// How long the result may take, with the waiting before it is written.
    timeout: Duration,
    kept: bool,
    submitted: Instant,
    /// Runs in the background under this name.
    job: Option<ChannelUuid>,
}

/// Whose reply is next, and when it is overdue.
#[derive(Debug)]
pub(super) struct Awaited {
    what: What,
    written: Instant,
    due: Instant,
    /// The bytes of a command that is written again after an outage.
    again: Option<Vec<u8>>,
}

/// A command that runs in the background.
#[derive(Debug)]
pub(super) struct Job {
    ticket: Ticket,
    form: ReplyForm,
    due: Instant,
}

impl Link {
    /// Takes a command; its outcome is reported once, by `ticket`.
    pub(crate) fn submit(&mut self, now: Instant, ticket: Ticket, command: &SwitchCommand) {
        if let Err(error) = command.check() {
            self.reply(ticket, Err(error.into()));
            return;
        }
        let kept = command.is_kept_while_down();
        let refusal = match self.phase {
            Phase::Ended => Some(SwitchError::Stopped),
            _ if self.releasing => Some(SwitchError::Down),
            Phase::Up if self.waiting.len() >= MAX_WAITING => Some(SwitchError::Busy),
            Phase::Up => None,
            _ if !kept || self.is_outbound() => Some(SwitchError::Down),
            _ if self.kept.len() >= MAX_KEPT || self.kept_bytes >= MAX_KEPT_BYTES => {
                Some(SwitchError::Busy)
            }
            _ => None,
        };
        if let Some(error) = refusal {
            self.reply(ticket, Err(error));
            return;
        }
        let job = ChannelUuid::from_random(self.random.u128(..));
        let mut bytes = Vec::new();
        command.write(&job, &mut bytes);
        let order = Order {
            ticket,
            form: command.reply_form(),
            timeout: command.timeout(),
            kept,
            submitted: now,
            job: (command.travel() == Travel::Background).then_some(job),
        };
        if self.phase == Phase::Up {
            let until = now + SwitchCommand::TIMEOUT;
            self.waiting.push_back(Outgoing { bytes, what: What::Order(order), until });
            self.pump(now);
        } else {
            self.keep(bytes, order);
        }
    }

    fn keep(&mut self, bytes: Vec<u8>, order: Order) {
        self.kept_bytes += bytes.len();
        let until = order.submitted + KEPT_FOR;
        self.kept.push_back(Outgoing { bytes, what: What::Order(order), until });
    }

    /// Asks something of our own, ahead of what waits.
    pub(super) fn ask(&mut self, now: Instant, step: Step) {
        let bytes = match (&step, &self.role) {
            (Step::Login, super::Role::Inbound(settings)) => settings.login(),
            _ => step.bytes(),
        };
        // Steps of the start have the start's own limit.
        let until = now + super::START_TIMEOUT;
        self.steps.push_back(Outgoing { bytes, what: What::Step(step), until });
    }

    /// The last thing to be said: goodbye, after all that waits.
    pub(super) fn say_last(&mut self, now: Instant, step: Step) {
        let bytes = step.bytes();
        self.waiting.push_back(Outgoing {
            bytes,
            what: What::Step(step),
            until: now + super::START_TIMEOUT,
        });
    }

    /// Writes what may be written.
    pub(super) fn pump(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Idle { .. } | Phase::Dialling { .. } | Phase::Ended) {
            return;
        }
        while self.wire.len() < WINDOW && self.out.len() < MAX_OUT {
            let next = match self.steps.pop_front() {
                Some(step) => Some(step),
                None if self.phase == Phase::Up => self.waiting.pop_front(),
                None => None,
            };
            let Some(Outgoing { bytes, what, until }) = next else { break };
            let mut due = now + SwitchCommand::TIMEOUT;
            if let What::Order(order) = &what {
                if until <= now {
                    self.reply(order.ticket, Err(SwitchError::Busy));
                    continue;
                }
                due = due.min(until);
            }
            self.out.extend_from_slice(&bytes);
            let again = match &what {
                What::Order(order) => {
                    if let Some(job) = &order.job {
                        let Order { ticket, form, timeout, submitted, .. } = *order;
                        let due = submitted + timeout;
                        self.jobs.insert(job.clone(), Job { ticket, form, due });
                    }
                    order.kept.then_some(bytes)
                }
                _ => None,
            };
            self.wire.push_back(Awaited { what, written: now, due, again });
        }
    }

    /// Takes the reply that is next in order.
    pub(super) fn handle_reply(&mut self, now: Instant, frame: &Frame) {
        let Some(Awaited { what, .. }) = self.wire.pop_front() else {
            self.unreadable += 1; // A reply to nothing.
            return;
        };
        let text = match frame.kind() {
            FrameKind::ApiResponse => String::from_utf8_lossy(&frame.body).into_owned(),
            _ => frame.reply_text(),
        };
        match what {
            What::Step(step) => self.handle_step(now, step, frame, text),
            What::Overdue => {}
            What::Order(Order { job: Some(job), .. }) => {
                // Only its beginning is confirmed, or that it was refused.
                if let Err(error) = Reply::judge(text, ReplyForm::Status)
                    && let Some(job) = self.jobs.remove(&job)
                {
                    self.reply(job.ticket, Err(error));
                }
            }
            What::Order(order) if frame.skipped => {
                let reason = "the reply is longer than 4 MiB".to_owned();
                self.reply(order.ticket, Err(SwitchError::Refused { reason }));
            }
            What::Order(order) => self.reply(order.ticket, Reply::judge(text, order.form)),
        }
    }

    /// Takes the result of a command that ran in the background; one that was given up on is swallowed.
    pub(super) fn handle_job(&mut self, headers: &EventHeaders) {
        let name = headers.get("Job-UUID").and_then(|name| ChannelUuid::new(name).ok());
        let Some(job) = name.and_then(|name| self.jobs.remove(&name)) else { return };
        let text = headers.get("_body").unwrap_or_default().to_owned();
        self.reply(job.ticket, Reply::judge(text, job.form));
    }

    pub(super) fn reply(&mut self, ticket: Ticket, result: Result<Reply, SwitchError>) {
        self.events.push_back(LinkEvent::Reply { ticket, result });
    }

    /// When something of what waits is due.
    pub(super) fn orders_due(&self) -> impl Iterator<Item = Instant> {
        let wire = self.wire.iter().map(|awaited| awaited.due);
        let jobs = self.jobs.values().map(|job| job.due);
        let waiting = self.waiting.iter().map(|order| order.until).min();
        let kept = self.kept.iter().map(|order| order.until).min();
        wire.chain(jobs).chain(waiting).chain(kept)
    }

    /// Gives up on what is overdue. A command whose reply does not come is given up 5 s after it was ordered, its reply
    /// swallowed when it comes after all; when it does not come within 10 s of its writing, the connection is.
    pub(super) fn give_up_due(&mut self, now: Instant) {
        let mut hangs = false;
        for at in 0..self.wire.len() {
            let awaited = &mut self.wire[at];
            if awaited.due > now {
                continue;
            }
            awaited.due = (now + GRACE).max(awaited.written + SwitchCommand::TIMEOUT + GRACE);
            awaited.again = None;
            match std::mem::replace(&mut awaited.what, What::Overdue) {
                What::Overdue => hangs = true,
                What::Step(_) => hangs |= self.phase != Phase::Up,
                What::Order(order) => {
                    if let Some(job) = &order.job {
                        self.jobs.remove(job);
                    }
                    self.reply(order.ticket, Err(SwitchError::TimedOut));
                }
            }
        }
        let due: Vec<ChannelUuid> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.due <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if let Some(job) = self.jobs.remove(&name) {
                self.reply(job.ticket, Err(SwitchError::TimedOut));
            }
        }
        // What was kept during an outage stands in front and may wait longer.
        if self.waiting.iter().any(|order| order.until <= now) {
            for waiting in std::mem::take(&mut self.waiting) {
                match waiting.what {
                    _ if waiting.until > now => self.waiting.push_back(waiting),
                    What::Order(order) => self.reply(order.ticket, Err(SwitchError::Busy)),
                    What::Step(_) => hangs = true, // Goodbye could not be said.
                    What::Overdue => {}
                }
            }
        }
        self.give_up_kept(now);
        if hangs {
            self.close(now, "the switch does not answer", None);
        }
    }

    fn give_up_kept(&mut self, now: Instant) {
        for _ in 0..self.kept.len() {
            let Some(order) = self.kept.pop_front() else { break };
            if order.until > now {
                self.kept.push_back(order);
                continue;
            }
            self.kept_bytes = self.kept_bytes.saturating_sub(order.bytes.len());
            if let What::Order(order) = order.what {
                self.reply(order.ticket, Err(SwitchError::Down));
            }
        }
    }

    /// After a loss: what was written is in doubt, what was not is down, and what is kept waits for the next
    /// connection.
    pub(super) fn settle_after_loss(&mut self, now: Instant) {
        let mut doubtful = Vec::new();
        for Awaited { what, again, .. } in std::mem::take(&mut self.wire) {
            match (what, again) {
                (What::Order(order), Some(bytes)) if order.submitted + KEPT_FOR > now => {
                    self.keep(bytes, order);
                }
                (What::Order(order), _) => match &order.job {
                    // It is among the jobs, too, and answered with them.
                    Some(job) if self.jobs.contains_key(job) => {}
                    _ => doubtful.push(order.ticket),
                },
                (What::Step(_) | What::Overdue, _) => {}
            }
        }
        let mut jobs: Vec<Ticket> = self.jobs.drain().map(|(_, job)| job.ticket).collect();
        jobs.sort_unstable();
        for ticket in doubtful.into_iter().chain(jobs) {
            self.reply(ticket, Err(SwitchError::Unknown));
        }
        for Outgoing { bytes, what, .. } in std::mem::take(&mut self.waiting) {
            match what {
                What::Order(order) if order.kept => self.keep(bytes, order),
                What::Order(order) => self.reply(order.ticket, Err(SwitchError::Down)),
                What::Step(_) | What::Overdue => {}
            }
        }
    }

    /// The end: all that is left is answered with `error`, what was written with `Unknown`.
    pub(super) fn end(&mut self, error: &SwitchError) {
        self.phase = Phase::Ended;
        let mut answers = Vec::new();
        for Awaited { what, .. } in std::mem::take(&mut self.wire) {
            if let What::Order(order) = what
                && order.job.is_none()
            {
                answers.push((order.ticket, SwitchError::Unknown));
            }
        }
        let mut jobs: Vec<Ticket> = self.jobs.drain().map(|(_, job)| job.ticket).collect();
        jobs.sort_unstable();
        answers.extend(jobs.into_iter().map(|ticket| (ticket, SwitchError::Unknown)));
        let left =
            std::mem::take(&mut self.waiting).into_iter().chain(std::mem::take(&mut self.kept));
        for Outgoing { what, .. } in left {
            if let What::Order(order) = what {
                answers.push((order.ticket, error.clone()));
            }
        }
        for (ticket, error) in answers {
            self.reply(ticket, Err(error));
        }
        self.steps.clear();
        self.out.clear();
    }
}
