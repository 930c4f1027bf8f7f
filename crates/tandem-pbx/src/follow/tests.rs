//! Controls of a followed channel, against a scripted switch over loopback.

use std::sync::Arc;

use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    CallerIdentity, ChannelSettings, ControlError, DialString, Digits, ForkModule, ForkSource,
    ValetSlot, Word,
    switch::tests::{Peer, start},
};

const A: &str = "971a0687-092d-4726-849f-b20b7177229c";

struct Nobody;

impl CallSide for Nobody {
    fn event(&mut self, _event: SignalEvent) {}
    fn announce(&mut self, _leg: &ChannelUuid, _text: String) {}
    fn announcement_played(&mut self, _leg: &ChannelUuid, _playback: FilePlayback) {}
    fn stop_announcing(&mut self, _leg: &ChannelUuid) {}
}

struct Call {
    peer: Peer,
    inputs: mpsc::Sender<ChannelInput>,
    following: JoinHandle<()>,
    _listener: TcpListener,
}

impl Call {
    /// A call that is up on a channel whose fork the dialplan began.
    async fn talking() -> Self {
        let (listener, switch) = start().await;
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.come_up(A).await;
        switch.up().await.unwrap();
        let uuid = ChannelUuid::new(A).unwrap();
        let watch = switch.watch(uuid.clone()).unwrap();
        let channel = Channel::new(ChannelSettings {
            uuid,
            answered: true,
            caller: CallerIdentity::default(),
            fork: ForkSource::Dialplan { module: ForkModule::AudioForkBidirectional, bug: None },
            transfers: Arc::default(),
            carried: Vec::new(),
            fallback: None,
            seed: 7,
        });
        let (inputs, taken) = mpsc::channel(16);
        inputs.send(ChannelInput::Command(SignalCommand::Answer)).await.unwrap();
        let following = tokio::spawn(follow(channel, switch, watch, taken, Nobody));
        let mut call = Self { peer, inputs, following, _listener: listener };
        // A digit to send tells that all before it was carried out.
        let sent = call.order(digit()).await;
        while !call.peer.command().await.starts_with("api uuid_send_dtmf") {
            call.peer.result("+OK\n").await;
        }
        call.peer.result("+OK\n").await;
        sent.await.unwrap().unwrap();
        call
    }

    async fn order(&self, control: Control) -> oneshot::Receiver<ControlOutcome> {
        let (outcome, coming) = oneshot::channel();
        self.inputs.send(ChannelInput::Control { control, outcome }).await.unwrap();
        coming
    }

    async fn expect(&mut self, command: &str, result: &str) {
        assert_eq!(self.peer.command().await.replace(A, "U"), format!("api {command}"));
        self.peer.result(result).await;
    }

    async fn valet(&mut self, action: &str, slot: &str) {
        let json = format!(
            "{{\"Event-Name\":\"CUSTOM\",\"Event-Subclass\":\"valet_parking::info\",\"Unique-ID\":\"{A}\",\"Valet-Lot-Name\":\"lot1\",\"Valet-Extension\":\"{slot}\",\"Action\":\"{action}\"}}"
        );
        let head = format!("Content-Length: {}\nContent-Type: text/event-json\n\n", json.len());
        self.peer.say(&(head + &json)).await;
    }
}

fn digit() -> Control {
    Control::SendDigits { digits: Digits::new("5").unwrap(), duration: None }
}

fn join() -> Control {
    let (conference, profile) = (Word::new("r").unwrap(), Word::new("default").unwrap());
    Control::JoinConference { conference, profile }
}

#[tokio::test]
async fn what_is_ordered_comes_out_in_the_switchs_own_words() {
    let mut call = Call::talking().await;
    let hold = call.order(Control::Hold).await;
    call.expect("uuid_hold U", "-ERR Operation failed\n").await;
    assert_eq!(hold.await.unwrap().unwrap_err().to_string(), "refused: Operation failed");
    let resume = call.order(Control::Resume).await;
    assert_eq!(resume.await.unwrap(), Err(ControlError::NotHeld.into()));
    let name = crate::VariableName::new("agent_x").unwrap();
    let variable = call.order(Control::GetVariable(name)).await;
    call.expect("uuid_getvar U agent_x", "a value").await;
    assert_eq!(variable.await.unwrap().unwrap().value(), Some("a value"));
}

#[tokio::test]
async fn the_next_order_waits_for_what_came_of_the_one_before() {
    let mut call = Call::talking().await;
    let joined = call.order(join()).await;
    call.expect("uuid_setvar U hangup_after_conference false", "+OK\n").await;
    call.expect("uuid_transfer U conference:r@default,park inline", "+OK\n").await;
    joined.await.unwrap().unwrap();
    let joined = call.order(join()).await;
    call.expect("uuid_setvar U hangup_after_conference false", "-ERR no\n").await;
    joined.await.unwrap().unwrap_err();
    let digit = call.order(digit()).await;
    call.expect("uuid_send_dtmf U 5", "+OK\n").await;
    digit.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_parked_caller_has_a_slot() {
    let mut call = Call::talking().await;
    let slot = ValetSlot::Range { first: 5001, last: 5099 };
    let park = Control::ValetPark { lot: Word::new("lot1").unwrap(), slot };
    let parked = call.order(park).await;
    call.expect("uuid_transfer U 'valet_park:lot1 auto in 5001 5099' inline", "+OK\n").await;
    call.valet("exit", "5000").await;
    call.valet("hold", "5007").await;
    assert_eq!(parked.await.unwrap().unwrap().value(), Some("5007"));
}

#[tokio::test]
async fn a_call_that_is_over_leaves_nobody_ringing() {
    let mut call = Call::talking().await;
    let three = Control::ThreeWay {
        conference: Word::new("r").unwrap(),
        profile: Word::new("default").unwrap(),
        third: DialString::new("sofia/internal/1001@10.0.0.5").unwrap(),
        timeout: Duration::from_secs(20),
    };
    let called = call.order(three).await;
    let command = call.peer.command().await;
    assert!(command.starts_with("bgapi originate {origination_uuid="), "{command}");
    let (_, third) = command.split_once("origination_uuid=").unwrap();
    let third = third[..36].to_owned();
    let job = command.rsplit_once("Job-UUID: ").map(|(_, job)| job.to_owned()).unwrap();
    call.peer.reply(&format!("+OK Job-UUID: {job}")).await;
    call.peer.event("CHANNEL_HANGUP", A).await;
    assert_eq!(call.peer.command().await, format!("api uuid_kill {third} ORIGINATOR_CANCEL"));
    call.peer.result("+OK\n").await;
    let json = format!(
        "{{\"Event-Name\":\"BACKGROUND_JOB\",\"Job-UUID\":\"{job}\",\"_body\":\"-ERR ORIGINATOR_CANCEL\\n\"}}"
    );
    let head = format!("Content-Length: {}\nContent-Type: text/event-json\n\n", json.len());
    call.peer.say(&(head + &json)).await;
    let failure = called.await.unwrap().unwrap_err();
    assert_eq!(failure.to_string(), "refused: ORIGINATOR_CANCEL");
    call.following.await.unwrap();
    let (outcome, coming) = oneshot::channel();
    let late = ChannelInput::Control { control: Control::Hold, outcome };
    assert!(call.inputs.send(late).await.is_err());
    drop(coming);
}
