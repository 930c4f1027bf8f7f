//! Channels that are not taken: their dialplan goes on, and is told why and where to.

use tandem_exchange::{Elsewhere, Refused};
use tandem_pbx::{
    Cause, CommandError, OutboundChannel, RawCommand, SwitchCommand, SwitchError, TargetError,
    TransferPlan, VariableName, VariableValue,
};

/// Longest value of a variable that may stand in a route: longer is no domain.
const LONGEST_VALUE: usize = 255;

/// Why a number's route leads nowhere.
#[derive(Debug, thiserror::Error)]
enum RouteError {
    /// The configuration knows no way.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The switch did not say what stands for a variable in it.
    #[error("the switch does not say what its variable {name} is: {error}")]
    Unasked { name: String, error: SwitchError },
    /// What it said can't be part of a route.
    #[error("the route holds ${{{name}}}, which is {value:?} on this switch")]
    Value { name: String, value: String },
}

/// Lets the dialplan of `channel` go on, and tells it where to; `transfers` knows the way to places.
pub(super) async fn give_back(
    channel: OutboundChannel,
    refused: &Refused,
    transfers: &TransferPlan,
) {
    let (status, route) = match refused {
        Refused::Elsewhere(Elsewhere::HangUp(cause)) => {
            let uuid = channel.uuid().clone();
            let hang_up = SwitchCommand::HangUp { uuid, cause: Cause::from(*cause) };
            if let Err(error) = channel.execute(hang_up).await {
                tracing::warn!(%error, "a channel could not be released");
            }
            return channel.release();
        }
        Refused::Elsewhere(Elsewhere::Place(target)) => {
            let argument = transfers.dialplan_argument(target).map_err(RouteError::from);
            let filled = match argument {
                Ok(argument) => filled(&channel, argument).await,
                Err(error) => Err(error),
            };
            match filled {
                Ok(argument) => ("elsewhere", Some(argument)),
                Err(error) => {
                    tracing::error!(%error, "the number's route can't be reached");
                    ("unreachable", None)
                }
            }
        }
        Refused::NoRoute(_) => ("no_route", None),
        Refused::AgentBusy => ("busy", None),
        Refused::NoRoom { .. } => ("full", None),
    };
    let mut variables = vec![("tandem_status", status.to_owned())];
    variables.extend(route.map(|route| ("tandem_route", route)));
    let variables = variables
        .iter()
        .map(|(name, value)| Ok((VariableName::new(name)?, VariableValue::new(value)?)))
        .collect::<Result<Vec<_>, CommandError>>();
    match variables {
        Ok(variables) => {
            let uuid = channel.uuid().clone();
            let set = SwitchCommand::SetVariables { uuid, variables };
            if let Err(error) = channel.execute(set).await {
                tracing::warn!(%error, "the dialplan could not be told where to go on");
            }
        }
        Err(error) => tracing::error!(%error, "the dialplan can't be told where to go on"),
    }
    channel.release();
}

/// `argument` with what the switch says in place of each `${name}`: a variable of the channel, else of the switch.
///
/// The dialplan would not do it, for it does not look into the value of a variable again.
async fn filled(channel: &OutboundChannel, argument: String) -> Result<String, RouteError> {
    let mut filled = String::with_capacity(argument.len());
    let mut rest = argument.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let value = match channel.headers().variable(name) {
            Some(value) => value.to_owned(),
            None => global(channel, name).await?,
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if value.is_empty() || value.len() > LONGEST_VALUE || !value.chars().all(fits) {
            let value = value.chars().take(40).collect();
            return Err(RouteError::Value { name: name.to_owned(), value });
        }
        filled.push_str(before);
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

async fn global(channel: &OutboundChannel, name: &str) -> Result<String, RouteError> {
    let unasked = |error| RouteError::Unasked { name: name.to_owned(), error };
    let command = RawCommand::new(&format!("global_getvar {name}"))
        .map_err(|error| unasked(SwitchError::from(error)))?;
    let reply = channel.execute(SwitchCommand::Raw(command)).await.map_err(unasked)?;
    Ok(reply.value().unwrap_or_default().trim().to_owned())
}
