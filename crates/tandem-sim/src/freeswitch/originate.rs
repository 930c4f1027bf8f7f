//! Calling out: dial strings, legs that ring, answer or refuse.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    arguments,
    audio::Speech,
    channel::{Kind, Running, State, Step},
    lifecycle::NewChannel,
    model::{SwitchModel, Waiting},
    settings::{LegAct, Target},
};

/// How long a leg may ring when nobody says how long.
const USUAL_TIMEOUT: u64 = 60;

/// What is to be called, and what happens with who answers.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) dial: String,
    pub(crate) then: Then,
    pub(crate) caller_name: Option<String>,
    pub(crate) caller_number: Option<String>,
    pub(crate) timeout: Option<u64>,
}

/// What happens with the leg that answers.
#[derive(Debug, Clone)]
pub(crate) enum Then {
    App(String, String),
    Extension {
        number: String,
        dialplan: String,
        context: String,
    },
    /// It is joined to this channel, whose application `bridge` called it.
    Bridge(String),
}

impl Order {
    /// What the application `bridge` of a channel calls.
    pub(crate) fn bridge(dial: &str, uuid: &str) -> Self {
        Self {
            dial: dial.to_owned(),
            then: Then::Bridge(uuid.to_owned()),
            caller_name: None,
            caller_number: None,
            timeout: None,
        }
    }

    /// The arguments of `originate`; none when they are not enough.
    pub(crate) fn parse(arguments: &str) -> Option<Self> {
        let words = arguments::split(arguments, 7);
        let word = |index: usize| words.get(index).filter(|word| *word != "undef").cloned();
        let (dial, exten) = (word(0)?, word(1)?);
        let then = match exten.strip_prefix('&') {
            Some(app) => {
                let (app, data) = app.split_once('(').unwrap_or((app, ""));
                Then::App(app.to_owned(), data.strip_suffix(')').unwrap_or(data).to_owned())
            }
            None => Then::Extension {
                number: exten,
                dialplan: word(2).unwrap_or_else(|| "XML".to_owned()),
                context: word(3).unwrap_or_else(|| "default".to_owned()),
            },
        };
        Some(Self {
            dial,
            then,
            caller_name: word(4),
            caller_number: word(5),
            timeout: word(6).and_then(|seconds| seconds.parse().ok()),
        })
    }
}

/// An attempt that runs.
#[derive(Debug)]
pub(crate) struct Originate {
    order: Order,
    waiting: Waiting,
    variables: Vec<(String, String)>,
    /// Legs that are tried when those before have failed.
    groups: VecDeque<Vec<String>>,
    legs: Vec<String>,
    last_cause: String,
    pub(crate) deadline: Instant,
    timed_out: bool,
}

impl SwitchModel {
    /// Starts to call; the error is the reply when nothing came of it at once.
    pub(crate) fn originate(
        &mut self,
        now: Instant,
        order: Order,
        waiting: &Waiting,
    ) -> Result<u64, String> {
        if self.paused {
            return Err("-ERR DESTINATION_OUT_OF_ORDER\n".to_owned());
        }
        let (variables, dial) = leading_variables(&order.dial, '{', '}');
        let number = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.and_then(|(_, value)| value.parse::<u64>().ok())
        };
        let timeout = number("originate_timeout").or(number("call_timeout")).or(order.timeout);
        let groups = arguments::split_outside_brackets(&dial, '|').into_iter().map(|group| {
            let legs = arguments::split_outside_brackets(group, ',').into_iter();
            legs.map(|leg| leg.trim().to_owned()).collect()
        });
        let id = self.new_id();
        let originate = Originate {
            groups: groups.collect(),
            variables,
            legs: Vec::new(),
            last_cause: "NORMAL_TEMPORARY_FAILURE".to_owned(),
            deadline: now + Duration::from_secs(timeout.unwrap_or(USUAL_TIMEOUT).min(86_400)),
            timed_out: false,
            order,
            waiting: waiting.clone(),
        };
        self.originates.insert(id, originate);
        if self.call_next_group(now, id) {
            return Ok(id);
        }
        let failed = self.originates.remove(&id);
        Err(format!("-ERR {}\n", failed.map_or_else(String::new, |failed| failed.last_cause)))
    }

    /// Calls the next legs; false when none is left that can be called.
    fn call_next_group(&mut self, now: Instant, id: u64) -> bool {
        while let Some(legs) =
            self.originates.get_mut(&id).and_then(|originate| originate.groups.pop_front())
        {
            for leg in legs {
                let (own, leg) = leading_variables(&leg, '[', ']');
                for leg in self.legs_of(&leg) {
                    let found = leg.and_then(|leg| Ok((self.target_of(&leg)?, leg)));
                    match found {
                        Ok((target, leg)) => self.call_leg(now, id, &leg, own.clone(), &target),
                        Err(cause) => {
                            if let Some(originate) = self.originates.get_mut(&id) {
                                originate.last_cause = cause;
                            }
                        }
                    }
                }
            }
            if self.originates.get(&id).is_some_and(|originate| !originate.legs.is_empty()) {
                return true;
            }
        }
        false
    }

    fn call_leg(
        &mut self,
        now: Instant,
        id: u64,
        leg: &str,
        own: Vec<(String, String)>,
        target: &Target,
    ) {
        let Some(originate) = self.originates.get(&id) else { return };
        let mut variables = originate.variables.clone();
        variables.extend(own);
        let of = |name: &str| {
            let found = variables.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        let owner = match &originate.order.then {
            Then::Bridge(uuid) => self.channels.get(uuid),
            _ => None,
        };
        let number = of("origination_caller_id_number")
            .or(originate.order.caller_number.clone())
            .or(owner.map(|owner| owner.caller_number.clone()));
        let name = of("origination_caller_id_name")
            .or(originate.order.caller_name.clone())
            .or(owner.map(|owner| owner.caller_name.clone()));
        let destination = leg.rsplit('/').next().unwrap_or_default().split('@').next();
        let destination = match leg.strip_prefix("loopback/") {
            Some(rest) => rest.split('/').next(),
            None => destination,
        };
        let new = NewChannel {
            uuid: of("origination_uuid").filter(|_| originate.legs.is_empty()),
            inbound: false,
            name: channel_name(leg),
            caller_number: number.unwrap_or_else(|| "0000000000".to_owned()),
            caller_name: name.unwrap_or_default(),
            destination: destination.unwrap_or_default().to_owned(),
            context: "default".to_owned(),
            codec: ("PCMU", 8_000),
            speech: Speech::Silence,
            variables,
            call_uuid: owner.map(|owner| owner.call_uuid.clone()),
        };
        let uuid = self.create_channel(now, new);
        self.raise(now, &uuid, "CHANNEL_ORIGINATE", &[], &[]);
        self.set_state(now, &uuid, State::ConsumeMedia);
        let Some(channel) = self.channels.get_mut(&uuid) else { return };
        channel.originate = Some(id);
        let mut at = |after: Option<Duration>, step: Step| {
            channel.schedule.extend(after.map(|after| (now + after, step)));
        };
        at(target.rings, Step::Ring);
        at(target.early, Step::Early);
        at(target.answers, Step::Answer);
        for (after, act) in &target.then {
            at(target.answers.map(|answers| answers + *after), Step::Act(act.clone()));
        }
        if let Some((cause, after)) = &target.fails {
            at(Some(*after), Step::Fail(cause.clone()));
        }
        if let Some(originate) = self.originates.get_mut(&id) {
            originate.legs.push(uuid.clone());
        }
        if let Some(rest) = leg.strip_prefix("loopback/").filter(|_| *target == Target::silent()) {
            self.add_other_half(now, &uuid, rest);
        }
    }

    /// The other half of a loopback pair: it runs the extension.
    fn add_other_half(&mut self, now: Instant, called: &str, extension: &str) {
        let mut parts = extension.split('/');
        let number = parts.next().unwrap_or_default();
        let context = parts.next().unwrap_or("default");
        let Some(channel) = self.channels.get(called) else { return };
        let new = NewChannel {
            uuid: None,
            inbound: true,
            name: format!("loopback/{number}-b"),
            caller_number: channel.caller_number.clone(),
            caller_name: channel.caller_name.clone(),
            destination: number.to_owned(),
            context: context.to_owned(),
            codec: channel.codec,
            speech: Speech::Silence,
            variables: Vec::new(),
            call_uuid: Some(channel.call_uuid.clone()),
        };
        let other = self.create_channel(now, new);
        for (half, whole) in [(called, other.as_str()), (&other, called)] {
            if let Some(channel) = self.channels.get_mut(half) {
                channel.loopback = Some(whole.to_owned());
            }
        }
        self.set_call_state(now, &other, "RINGING");
        match self.config.extensions.get(number).cloned() {
            Some(actions) => {
                if let Some(channel) = self.channels.get_mut(&other) {
                    channel.plan.extend(actions);
                }
                self.set_state(now, &other, State::Execute);
            }
            None => self.hang_up(now, &other, "NO_ROUTE_DESTINATION"),
        }
    }

    /// Whether a test has said what becomes of this leg.
    pub(crate) fn is_scripted(&self, leg: &str) -> bool {
        self.targets.iter().any(|(pattern, _)| leg.contains(pattern.as_str()))
    }

    /// What becomes of a leg: as it was scripted, else as the switch itself knows; an error is a cause at once.
    fn target_of(&self, leg: &str) -> Result<Target, String> {
        let scripted = self.targets.iter().filter(|(pattern, _)| leg.contains(pattern.as_str()));
        if let Some((_, target)) = scripted.max_by_key(|(pattern, _)| pattern.len()) {
            return Ok(target.clone());
        }
        let (kind, rest) = leg.split_once('/').unwrap_or((leg, ""));
        let soon = Duration::from_millis(20);
        match kind {
            // What its other half does with the extension decides.
            "loopback" => Ok(Target::silent()),
            "sofia" => {
                let (profile, address) = rest.split_once('/').unwrap_or((rest, ""));
                if profile == "gateway" {
                    let gateway = address.split('/').next().unwrap_or_default();
                    return match self.config.gateways.get(gateway) {
                        None => Err("INVALID_GATEWAY".to_owned()),
                        Some(false) => Err("GATEWAY_DOWN".to_owned()),
                        Some(true) => Ok(Target::fails("NORMAL_TEMPORARY_FAILURE", soon)),
                    };
                }
                match self.config.profiles.iter().any(|known| known == profile) {
                    false => Err("INVALID_PROFILE".to_owned()),
                    true if address.is_empty() => Err("USER_NOT_REGISTERED".to_owned()),
                    true => Ok(Target::fails("NORMAL_TEMPORARY_FAILURE", soon)),
                }
            }
            _ => Err("CHAN_NOT_IMPLEMENTED".to_owned()),
        }
    }

    /// Does what a called leg does by now.
    pub(crate) fn step_schedule(&mut self, now: Instant, uuid: &str) {
        loop {
            let Some(channel) = self.channels.get_mut(uuid).filter(|channel| channel.is_up())
            else {
                return;
            };
            let due = channel.schedule.iter().enumerate().filter(|(_, (at, _))| *at <= now);
            let Some(index) = due.min_by_key(|(_, (at, _))| *at).map(|(index, _)| index) else {
                return;
            };
            let (_, step) = channel.schedule.remove(index);
            match step {
                Step::Ring => self.ring(now, uuid),
                Step::Early => {
                    self.pre_answer(now, uuid);
                    let counts = self.channels.get(uuid).is_some_and(|channel| {
                        !channel.is_true("ignore_early_media")
                            && channel.originate.is_some_and(|id| {
                                let originate = self.originates.get(&id);
                                originate.is_some_and(|originate| {
                                    !matches!(originate.order.then, Then::Bridge(_))
                                })
                            })
                    });
                    if counts {
                        self.leg_answered(now, uuid);
                    }
                }
                Step::Answer => {
                    self.answer(now, uuid);
                    self.leg_answered(now, uuid);
                }
                Step::Fail(cause) => self.hang_up(now, uuid, &cause),
                Step::Act(LegAct::Press(key)) => self.press(uuid, key),
                Step::Act(LegAct::HangUp(cause)) => self.hang_up(now, uuid, &cause),
                Step::Act(LegAct::Say(samples)) => {
                    if let Some(channel) = self.channels.get_mut(uuid) {
                        channel.media.voice.say(&samples);
                    }
                }
            }
        }
    }

    /// A leg answered: the attempt is over, the others are told so.
    pub(crate) fn leg_answered(&mut self, now: Instant, uuid: &str) {
        let id = self.channels.get_mut(uuid).and_then(|channel| channel.originate.take());
        let Some(originate) = id.and_then(|id| self.originates.remove(&id)) else { return };
        for other in originate.legs.iter().filter(|leg| *leg != uuid) {
            if let Some(channel) = self.channels.get_mut(other) {
                channel.originate = None;
            }
            self.hang_up(now, other, "LOSE_RACE");
        }
        match originate.order.then {
            Then::App(app, data) => {
                if let Some(channel) = self.channels.get_mut(uuid) {
                    channel.hit_dialplan = true;
                    channel.plan.push_back((app, data));
                }
                self.set_state(now, uuid, State::Execute);
            }
            Then::Extension { number, dialplan, context } => {
                self.reroute(uuid, &number, &dialplan, &context);
            }
            Then::Bridge(caller) => {
                if let Some(dial) = self.take_dial(&caller) {
                    self.answer(now, &caller);
                    let bridge = Running { kind: Kind::Bridge { leads: true }, ..dial };
                    self.join(now, &caller, uuid, Some(bridge));
                } else {
                    self.hang_up(now, uuid, "ORIGINATOR_CANCEL");
                }
            }
        }
        self.deliver(now, &originate.waiting, &format!("+OK {uuid}\n"));
    }

    /// A leg ended before it answered.
    pub(crate) fn leg_failed(&mut self, now: Instant, id: u64, uuid: &str, cause: &str) {
        let Some(originate) = self.originates.get_mut(&id) else { return };
        originate.legs.retain(|leg| leg != uuid);
        cause.clone_into(&mut originate.last_cause);
        if !originate.legs.is_empty() || (!originate.timed_out && self.call_next_group(now, id)) {
            return;
        }
        let Some(originate) = self.originates.remove(&id) else { return };
        if let Then::Bridge(caller) = &originate.order.then
            && let Some(dial) = self.take_dial(caller)
        {
            self.bridge_failed(now, caller, &originate.last_cause);
            self.raise_complete(now, caller, &dial.app, &dial.data, &dial.uuid, "_none_");
        }
        self.deliver(now, &originate.waiting, &format!("-ERR {}\n", originate.last_cause));
    }

    fn take_dial(&mut self, caller: &str) -> Option<Running> {
        let channel = self.channels.get_mut(caller).filter(|channel| channel.is_up())?;
        let at = channel.stack.iter().position(|running| matches!(running.kind, Kind::Dial(_)))?;
        Some(channel.stack.remove(at))
    }

    /// Whoever called does not want it any more.
    pub(crate) fn cancel_originate(&mut self, now: Instant, id: u64) {
        let Some(originate) = self.originates.remove(&id) else { return };
        for leg in &originate.legs {
            if let Some(channel) = self.channels.get_mut(leg) {
                channel.originate = None;
            }
            self.hang_up(now, leg, "ORIGINATOR_CANCEL");
        }
        self.deliver(now, &originate.waiting, "-ERR ORIGINATOR_CANCEL\n");
    }

    /// Gives up on those that nobody answered in time.
    pub(crate) fn check_originates(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .originates
            .iter()
            .filter(|(_, originate)| originate.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(originate) = self.originates.get_mut(&id) else { continue };
            originate.timed_out = true;
            originate.deadline = now + Duration::from_secs(86_400);
            originate.groups.clear();
            for leg in originate.legs.clone() {
                self.hang_up(now, &leg, "NO_ANSWER");
            }
        }
    }
}

/// The variables in brackets at the front, and what follows them.
fn leading_variables(text: &str, open: char, close: char) -> (Vec<(String, String)>, String) {
    let mut rest = text.trim();
    let mut variables = Vec::new();
    while let Some((inside, after)) =
        rest.strip_prefix(open).and_then(|rest| rest.split_once(close))
    {
        variables.extend(arguments::pairs(inside, ','));
        rest = after.trim_start();
    }
    (variables, rest.to_owned())
}

fn channel_name(leg: &str) -> String {
    match leg.split_once('/') {
        Some(("user", user)) => format!("sofia/internal/{user}"),
        Some(("loopback", rest)) => {
            format!("loopback/{}-a", rest.split('/').next().unwrap_or_default())
        }
        _ => match leg.strip_prefix("sofia/gateway/") {
            Some(rest) => {
                format!("sofia/peer/{}", rest.split_once('/').map_or(rest, |(_, number)| number))
            }
            None => leg.to_owned(),
        },
    }
}
