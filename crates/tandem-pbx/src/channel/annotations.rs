//! What the call wants kept with the channel, as variables that its call detail record carries.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Channel, ChannelNote, Purpose, after};
use crate::{SwitchCommand, VariableName, VariableValue};

/// Our variables begin with this.
const PREFIX: &str = "tandem_";

/// Longest value; a longer one is cut.
const LONGEST_VALUE: usize = 8 << 10;

/// Variables that wait to be set, at most; also in one order.
const MOST_WAITING: usize = 48;

/// A failed order is repeated after this, so often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const MOST_ATTEMPTS: u32 = 5;

/// The newest values that are not known to be set.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    waiting: BTreeMap<VariableName, VariableValue>,
    attempts: u32,
    again: Option<Instant>,
}

impl Annotations {
    pub(super) fn due(&self) -> Option<Instant> {
        self.again
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Channel {
    /// Takes variables to set; of several values of a name the last one wins.
    pub(super) fn annotate(&mut self, variables: Vec<(String, String)>) {
        for (name, value) in variables {
            let whole =
                if name.starts_with(PREFIX) { name.clone() } else { format!("{PREFIX}{name}") };
            let value = value.replace('\0', " ");
            let kept = &value[..value.floor_char_boundary(LONGEST_VALUE)];
            let pair =
                VariableName::new(&whole).and_then(|name| Ok((name, VariableValue::new(kept)?)));
            match pair {
                Ok((name, value)) => {
                    let full = self.annotations.waiting.len() >= MOST_WAITING;
                    if full && !self.annotations.waiting.contains_key(&name) {
                        let why = format!("{MOST_WAITING} wait already");
                        self.out.note(ChannelNote::VariableDropped { name: whole, why });
                    } else {
                        self.annotations.waiting.insert(name, value);
                    }
                }
                Err(error) => {
                    let name = name.chars().filter(|c| !c.is_control()).take(64).collect();
                    self.out.note(ChannelNote::VariableDropped { name, why: error.to_string() });
                }
            }
        }
        self.flush_annotations();
    }

    /// Orders what waits, unless an order is under way: what comes meanwhile goes with the next one.
    pub(super) fn flush_annotations(&mut self) {
        let under_way = self.out.awaits(|purpose| matches!(purpose, Purpose::Annotate(_)));
        if !under_way && self.link_up {
            self.order_annotations();
        }
    }

    /// Orders all that waits now: the last chance.
    pub(super) fn order_all_annotations(&mut self) {
        while !self.annotations.waiting.is_empty() {
            self.order_annotations();
        }
    }

    /// Orders what waits, as much as one order takes.
    fn order_annotations(&mut self) {
        self.annotations.again = None;
        let mut variables: Vec<(VariableName, VariableValue)> = Vec::new();
        let mut length = 0;
        while let Some((name, value)) = self.annotations.waiting.pop_first() {
            length += name.as_str().len() + value.as_str().len();
            if length > SwitchCommand::MAX_VARIABLES_LENGTH && !variables.is_empty() {
                self.annotations.waiting.insert(name, value);
                break;
            }
            variables.push((name, value));
        }
        if !variables.is_empty() {
            let uuid = self.settings.uuid.clone();
            let command = SwitchCommand::SetVariables { uuid, variables: variables.clone() };
            self.out.order(command, Purpose::Annotate(variables));
        }
    }

    /// They are set.
    pub(super) fn annotated(&mut self) {
        self.annotations.attempts = 0;
        self.flush_annotations();
    }

    /// They may not be set: newer values stand, the rest is tried again.
    pub(super) fn not_annotated(
        &mut self,
        now: Instant,
        variables: Vec<(VariableName, VariableValue)>,
        why: &str,
    ) {
        self.annotations.attempts += 1;
        if self.annotations.attempts >= MOST_ATTEMPTS {
            self.annotations.attempts = 0;
            for (name, _) in variables {
                let (name, why) = (name.to_string(), why.to_owned());
                self.out.note(ChannelNote::VariableDropped { name, why });
            }
            return self.flush_annotations();
        }
        for (name, value) in variables {
            self.annotations.waiting.entry(name).or_insert(value);
        }
        self.annotations.again = Some(after(now, AGAIN_AFTER));
    }

    /// Tries again what failed.
    pub(super) fn check_annotations(&mut self, now: Instant) {
        if self.annotations.again.is_some_and(|at| at <= now) {
            self.annotations.again = None;
            self.flush_annotations();
        }
    }
}
