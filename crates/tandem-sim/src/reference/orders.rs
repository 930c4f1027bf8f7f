//! Orders to the model.

use std::time::Duration;

use tandem_call::{Input, ItemId, LegEvent, ModelCommand, ToolOutcome};

use super::{Reference, Signalling, Step, Stimulus, Violation, check};

impl Reference {
    pub(super) fn take_model_command(
        &mut self,
        step: &Step<'_>,
        command: &ModelCommand,
    ) -> Result<(), Violation> {
        match command {
            ModelCommand::Greet(_) => {
                check(!self.greeted, || "greeted twice".into())?;
                check(self.signalling == Signalling::Answered, || "greeted nobody".into())?;
                check(self.live, || "a greeting by nobody".into())?;
                self.greeted = true;
                self.owed = true;
                Ok(())
            }
            ModelCommand::Say(_) => {
                self.owed = true;
                if self.tools.asks_transfer {
                    self.promised.get_or_insert(step.now);
                }
                check(!self.is_over() && !self.transferring(step.now), || "nobody listens".into())
            }
            ModelCommand::ToolResult { id, outcome } => {
                self.tools.give(id)?;
                let cancelled = *outcome == ToolOutcome::Cancelled;
                check(!cancelled, || "a cancelled call was answered".into())?;
                let status = match outcome {
                    ToolOutcome::Answered(result) => result["status"].as_str(),
                    ToolOutcome::Failed(_) | ToolOutcome::TimedOut | ToolOutcome::Cancelled => None,
                };
                let ending = status == Some("ending");
                let transferring = status == Some("transferring");
                if (transferring || self.tools.asks_transfer) && !self.transferring(step.now) {
                    self.promised.get_or_insert(step.now);
                }
                self.owed |= !transferring && !ending && self.talks(step.now);
                self.ending |= ending;
                self.farewell |= ending;
                Ok(())
            }
            ModelCommand::Truncate { item, heard } => {
                check(!heard.is_zero(), || "truncated to nothing".into())?;
                self.check_cut(step.stimulus, *item, Some(*heard))
            }
            ModelCommand::Forget { item } => self.check_cut(step.stimulus, *item, None),
            ModelCommand::Renew { .. } => {
                check(!self.is_over(), || "renewed for nobody".into())?;
                self.renewals.retain(|at| step.now.duration_since(*at) < Duration::from_secs(60));
                self.renewals.push_back(step.now);
                check(self.renewals.len() <= 3, || "renewed too often".into())?;
                let alive = !self.lost;
                self.change_session();
                self.live = alive; // The old connection may still be heard.
                Ok(())
            }
            ModelCommand::Close => {
                self.closed = true;
                self.live = false;
                self.tools.forget(step.now);
                self.signalling = Signalling::Over;
                Ok(())
            }
            ModelCommand::Digits(digits) => {
                check((1..=32).contains(&digits.len()), || format!("{} digits", digits.len()))
            }
            ModelCommand::Cancel => {
                self.answering = false;
                Ok(())
            }
            ModelCommand::TurnStarted { ago } => self.take_turn_started(step, *ago),
            ModelCommand::TurnEnded => {
                check(self.turn_open, || "the end of no turn".into())?;
                check(self.turn_is_over(step.now), || "the caller was not silent enough".into())?;
                self.turn_open = false;
                self.quiet_since = None;
                self.owed |= self.talks(step.now);
                Ok(())
            }
        }
    }

    /// `item` may only be truncated or forgotten when the leg has just reported it as cut, and once.
    fn check_cut(
        &mut self,
        stimulus: &Stimulus,
        item: ItemId,
        heard: Option<Duration>,
    ) -> Result<(), Violation> {
        let Stimulus::Input(Input::Leg(LegEvent::PlayoutCleared { cut })) = stimulus else {
            return Err(Violation(format!("{item:?} was not cut")));
        };
        let real = cut.iter().any(|cut| {
            cut.item == item
                && heard.is_none_or(|heard| heard <= cut.heard && heard <= cut.received)
        });
        check(real, || format!("{item:?} was not cut at {heard:?}"))?;
        check(self.truncates, || "told a model that need not be told".into())?;
        check(self.cut.insert(item), || format!("{item:?} was cut twice"))
    }
}
