use tandem_call::{ToolCallId, ToolReport, TransferKind, TransferTarget};
use tandem_pbx::{MediaPath, VariableName, Word};
use tokio::time::Instant;

use super::*;

const CHANNEL: &str = "971a0687-092d-4726-849f-b20b7177229c";

/// A call whose channel the test plays.
struct World {
    tools: ChannelTools,
    call_id: CallId,
    inputs: mpsc::Receiver<ChannelInput>,
    controllable: Option<Controllable>,
}

impl World {
    fn new() -> Self {
        let folder = MediaPath::new("/rec").unwrap();
        let gateways = vec![Word::new("trunk1").unwrap()];
        let lots = [("lot1".into(), (5001, 5009))].into();
        let allowed =
            SwitchTools { recordings: Some(folder), gateways, lots, ..SwitchTools::default() };
        let tools = ChannelTools::new(allowed);
        let call_id = CallId::new(1, 2);
        let (sender, inputs) = mpsc::channel(4);
        let agent = Some(TransferTarget::new(TransferKind::Extension, "1001"));
        let routes = TransferRoutes { agent, ..TransferRoutes::default() };
        let uuid = ChannelUuid::new(CHANNEL).unwrap();
        let channel = LiveChannel::new(&uuid, sender, Arc::default(), routes);
        let controllable = Some(tools.add(call_id.clone(), channel));
        Self { tools, call_id, inputs, controllable }
    }

    fn call(&self, name: &str, arguments: Value) -> Called {
        self.call_as(&self.call_id, name, arguments)
    }

    fn call_as(&self, call_id: &CallId, name: &str, arguments: Value) -> Called {
        let (inbox, outcomes) = mpsc::channel(4);
        let id = ToolCallId("1".into());
        let call = ToolCall { id, name: name.into(), arguments: Ok(arguments) };
        self.tools.start(call_id, call, ToolReply::new(1, inbox));
        Called(outcomes)
    }

    /// What the channel is told next.
    async fn control(&mut self) -> (Control, oneshot::Sender<ControlOutcome>) {
        match self.inputs.recv().await.unwrap() {
            ChannelInput::Control { control, outcome } => (control, outcome),
            other => panic!("{other:?}"),
        }
    }

    async fn expect(&mut self, expected: Control, comes_out: ControlOutcome) {
        let (control, outcome) = self.control().await;
        assert_eq!(control, expected);
        outcome.send(comes_out).unwrap();
    }
}

struct Called(mpsc::Receiver<(u32, ToolReport)>);

impl Called {
    async fn outcome(mut self) -> ToolOutcome {
        self.0.recv().await.unwrap().1.outcome
    }
}

fn said(text: &str) -> ControlOutcome {
    Ok(Reply::new(text))
}

fn failed(text: &str) -> ToolOutcome {
    ToolOutcome::Failed(text.into())
}

#[tokio::test]
async fn the_model_is_told_what_came_of_it() {
    let mut world = World::new();
    let variable = || Control::GetVariable(VariableName::new("agent_x").unwrap());
    let get = json!({ "name": "agent_x" });
    for (comes_out, expected) in [
        (said("a value"), ToolOutcome::Answered(json!({ "name": "agent_x", "value": "a value" }))),
        (said("_undef_"), ToolOutcome::Answered(json!({ "name": "agent_x", "value": null }))),
        (
            Err(SwitchError::Refused { reason: "No such channel!".into() }.into()),
            failed("the switch refused: No such channel!"),
        ),
        (Err(SwitchError::Down.into()), failed("the event socket is down")),
        (Err(ControlError::Transferring.into()), failed("the caller is being transferred")),
        (
            Err(ControlError::AlreadyRecording(MediaPath::new("/rec/a").unwrap()).into()),
            failed("the call is being recorded already"),
        ),
    ] {
        let called = world.call("pbx_get_variable", get.clone());
        world.expect(variable(), comes_out).await;
        assert_eq!(called.outcome().await, expected);
    }

    let called = world.call("pbx_valet_park", json!({ "lot": "lot1" }));
    world.control().await.1.send(said("5003")).unwrap();
    let parked = json!({ "status": "parked", "lot": "lot1", "slot": "5003" });
    assert_eq!(called.outcome().await, ToolOutcome::Answered(parked));

    for (text, expected) in [
        (
            "Name    \ttrunk1\nState   \tNOREG\nStatus  \tUP\n",
            ToolOutcome::Answered(
                json!({ "gateway": "trunk1", "status": "up", "registration": "NOREG" }),
            ),
        ),
        ("Invalid Gateway!", failed("the switch refused: Invalid Gateway!")),
    ] {
        let called = world.call("pbx_gateway_status", json!({ "gateway": "trunk1" }));
        world.control().await.1.send(said(text)).unwrap();
        assert_eq!(called.outcome().await, expected);
    }
}

#[tokio::test]
async fn a_call_without_an_event_socket_can_not_be_controlled() {
    let mut world = World::new();
    let none = failed("this call has no event socket: its channel can't be controlled");
    let other = world.call_as(&CallId::new(9, 9), "pbx_hold", json!({}));
    assert_eq!(other.outcome().await, none);
    // The channel is gone, the call is not yet told.
    let called = world.call("pbx_hold", json!({}));
    drop(world.control().await);
    assert_eq!(called.outcome().await, failed("the call is over"));
    world.inputs.close();
    assert_eq!(world.call("pbx_hold", json!({})).outcome().await, failed("the call is over"));
    world.controllable = None;
    assert_eq!(world.call("pbx_hold", json!({})).outcome().await, none);
    assert!(world.tools.live().is_empty());
}

#[tokio::test]
async fn arguments_and_full_queues_are_refused_before_anything_is_ordered() {
    let mut world = World::new();
    let unknown = world.call("pbx_hold", json!({ "minutes": 1 })).outcome().await;
    assert_eq!(unknown, failed("wrong arguments: unknown field `minutes`, expected `seconds`"));
    let waiting = [(); 4].map(|()| world.call("pbx_park", json!({})));
    let full = world.call("pbx_park", json!({})).outcome().await;
    assert_eq!(full, failed("too much is ordered of the channel"));
    for called in waiting {
        world.expect(Control::Park, said("+OK")).await;
        assert_eq!(called.outcome().await, ToolOutcome::Answered(json!({ "status": "done" })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_by_itself_once() {
    let mut world = World::new();
    let start = Instant::now();
    let called = world.call("pbx_hold", json!({ "seconds": 20 }));
    world.expect(Control::Hold, said("+OK")).await;
    let held = json!({ "status": "on hold", "seconds": 20 });
    assert_eq!(called.outcome().await, ToolOutcome::Answered(held));
    // The event socket is away for a moment.
    world.expect(Control::Resume, Err(SwitchError::Down.into())).await;
    assert_eq!(start.elapsed().as_secs(), 20);
    world.expect(Control::Resume, said("+OK")).await;
    assert_eq!(start.elapsed().as_secs(), 25);

    // Ended by the model, the end of the first hold does not end the second one.
    drop(world.call("pbx_hold", json!({ "seconds": 20 })));
    world.expect(Control::Hold, said("+OK")).await;
    let called = world.call("pbx_resume", json!({}));
    world.expect(Control::Resume, said("+OK")).await;
    called.outcome().await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let called = world.call("pbx_hold", json!({ "seconds": 60 }));
    world.expect(Control::Hold, said("+OK")).await;
    called.outcome().await;
    let again = Instant::now();
    world.expect(Control::Resume, Err(ControlError::NotHeld.into())).await;
    assert_eq!(again.elapsed().as_secs(), 60);

    // The call is over: nobody is left to end it for.
    let called = world.call("pbx_mute", json!({ "who": "caller" }));
    world.expect(Control::Mute(Direction::Read), Err(SwitchError::Unknown.into())).await;
    assert!(matches!(called.outcome().await, ToolOutcome::Failed(_)));
    world.controllable = None;
    assert!(world.inputs.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn each_mute_ends_at_its_own_time() {
    let mut world = World::new();
    let start = Instant::now();
    for (who, seconds, direction) in
        [("caller", 20, Direction::Read), ("agent", 60, Direction::Write)]
    {
        let called = world.call("pbx_mute", json!({ "who": who, "seconds": seconds }));
        world.expect(Control::Mute(direction), said("+OK")).await;
        called.outcome().await;
    }
    world.expect(Control::EndMute(Direction::Read), said("+OK")).await;
    assert_eq!(start.elapsed().as_secs(), 20);
    world.expect(Control::EndMute(Direction::Write), said("+OK")).await;
    assert_eq!(start.elapsed().as_secs(), 60);

    // Ended by the model, neither is ended again.
    for who in ["caller", "agent"] {
        drop(world.call("pbx_mute", json!({ "who": who, "seconds": 20 })));
        world.control().await.1.send(said("+OK")).unwrap();
    }
    let called = world.call("pbx_unmute", json!({}));
    world.expect(Control::Unmute, said("+OK")).await;
    called.outcome().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.inputs.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_at_once_is_being_called() {
    let mut world = World::new();
    let called = world.call("pbx_three_way", json!({}));
    let (control, ringing) = world.control().await;
    let Control::ThreeWay { conference, third, .. } = control else { panic!("{control:?}") };
    assert_eq!(conference.as_str(), format!("tandem-{CHANNEL}"));
    assert_eq!(third.as_str(), "user/1001");
    assert_eq!(called.outcome().await, ToolOutcome::Answered(json!({ "status": "calling" })));
    drop(ringing);
    let called = world.call("pbx_three_way", json!({}));
    let busy = SwitchError::Refused { reason: "USER_BUSY".into() };
    world.control().await.1.send(Err(busy.into())).unwrap();
    assert_eq!(called.outcome().await, failed("the switch refused: USER_BUSY"));
}

#[tokio::test]
async fn each_recording_has_a_file_of_its_own() {
    let mut world = World::new();
    for number in 1..=2 {
        drop(world.call("pbx_record", json!({ "action": "start" })));
        let (control, _) = world.control().await;
        let Control::Record { path, .. } = control else { panic!("{control:?}") };
        assert_eq!(path.as_str(), format!("/rec/{}-{number}.wav", world.call_id));
    }
}
