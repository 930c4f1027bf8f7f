//! The link against a real FreeSWITCH, where one is named: `TANDEM_FREESWITCH=127.0.0.1:8021`, and its password in
//! `TANDEM_FREESWITCH_PASSWORD` where it is not the stock one. Needs `mod_loopback` and `mod_dptools` and no
//! dialplan; calls only itself. Without the variable the tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::time::Duration;

use tandem_call::HangupCause;
use tandem_media::SampleRate;
use tandem_pbx::{
    Application, BroadcastLeg, CallerName, Cause, ChannelEvent, ChannelEventKind as Kind,
    ChannelNotice, ChannelUuid, ChannelWatch, ConferenceCommand, Connect, DialString, Digits,
    Direction, Eavesdrop, EavesdropMode, ForkEvent, ForkModule, ForkName, ForkStart, ForkUrl,
    LinkState, MediaPath, Member, Mix, Originate, OutboundListener, OutboundSettings, Playable,
    RecordAction, Switch, SwitchCommand as C, SwitchError, SwitchSettings, TransferLeg, ValetSlot,
    VariableName, VariableValue, Word,
};

/// What a value may have to survive.
const NASTY: [&str; 6] = [
    "plain",
    " it's; a 'quoted', \"line\"\r\nand\tanother \\ ",
    "Jörg Müller ☎",
    "a=b,c;d|e^^|f",
    "\\n is no line end",
    "100 % {sure} [x] <y> $5 & more'",
];

async fn switch() -> Option<Switch> {
    let Ok(address) = std::env::var("TANDEM_FREESWITCH") else {
        eprintln!("skipped: TANDEM_FREESWITCH names no switch");
        return None;
    };
    let password = std::env::var("TANDEM_FREESWITCH_PASSWORD").unwrap_or("ClueCon".into());
    let switch = Switch::start(SwitchSettings::new("real", address, password.into())).unwrap();
    soon(switch.up()).await.unwrap();
    Some(switch)
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("within 20 s")
}

fn new_uuid() -> ChannelUuid {
    ChannelUuid::from_random(fastrand::u128(..))
}

fn name(name: &str) -> VariableName {
    VariableName::new(name).unwrap()
}

fn value(value: &str) -> VariableValue {
    VariableValue::new(value).unwrap()
}

/// A leg that is answered and waits, and its events.
async fn call(switch: &Switch, variables: &[(&str, &str)]) -> (ChannelUuid, ChannelWatch) {
    let uuid = new_uuid();
    let watch = switch.watch(uuid.clone()).unwrap();
    let mut call = Originate::parked(
        uuid.clone(),
        DialString::new("null/tandem").unwrap(),
        Duration::from_secs(5),
    );
    for (name, value) in variables {
        call = call.variable(name, value).unwrap();
    }
    let reply = soon(switch.execute(C::Originate(Box::new(call)))).await.unwrap();
    assert_eq!(reply.uuid(), Some(uuid.clone()));
    (uuid, watch)
}

/// Waits for an event of which `wanted` gives something.
async fn event<T>(watch: &mut ChannelWatch, wanted: impl Fn(&ChannelEvent) -> Option<T>) -> T {
    soon(async {
        loop {
            match watch.recv().await.expect("the link lives") {
                ChannelNotice::Event(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    })
    .await
}

async fn variable(switch: &Switch, uuid: &ChannelUuid, variable: &str) -> Option<String> {
    let get = C::GetVariable { uuid: uuid.clone(), name: name(variable) };
    soon(switch.execute(get)).await.unwrap().value().map(str::to_owned)
}

#[tokio::test]
async fn a_channel_from_its_call_to_its_end() {
    let Some(switch) = switch().await else { return };
    let LinkState::Up(facts) = switch.state() else { panic!() };
    assert!(facts.version.contains("FreeSWITCH"), "{facts:?}");
    let (uuid, mut watch) = call(&switch, &[("tandem_x", "one")]).await;
    let variable_x = |event: &ChannelEvent| match event.kind {
        Kind::Answered => Some(event.variable("tandem_x").map(str::to_owned)),
        _ => None,
    };
    assert_eq!(event(&mut watch, variable_x).await.as_deref(), Some("one"));
    event(&mut watch, |event| (event.kind == Kind::Parked).then_some(())).await;

    // The list is written with a delay.
    let is_listed = async || {
        let rows = switch.execute(C::ShowChannels).await.unwrap().channels().unwrap();
        rows.iter().any(|row| row.uuid == uuid.as_str())
    };
    soon(async { while !is_listed().await {} }).await;
    assert!(soon(switch.execute(C::Exists { uuid: uuid.clone() })).await.unwrap().flag());
    let dump = soon(switch.execute(C::Dump { uuid: uuid.clone() })).await.unwrap().dump().unwrap();
    assert_eq!(
        (dump.get("Unique-ID"), dump.variable("tandem_x")),
        (Some(uuid.as_str()), Some("one"))
    );

    let received = C::ReceiveDigits { uuid: uuid.clone(), digits: Digits::new("5").unwrap() };
    soon(switch.execute(received)).await.unwrap();
    let digit = |event: &ChannelEvent| match event.kind {
        Kind::Digit { digit, .. } => Some(digit.as_char()),
        _ => None,
    };
    assert_eq!(event(&mut watch, digit).await, '5');

    let file = "tone_stream://%(400,100,800);loops=50";
    let what = Playable::File(MediaPath::new(file).unwrap());
    soon(switch.execute(C::Broadcast { uuid: uuid.clone(), what, leg: BroadcastLeg::Own }))
        .await
        .unwrap();
    let started = |event: &ChannelEvent| match &event.kind {
        Kind::PlaybackStarted { file } => Some(file.clone()),
        _ => None,
    };
    assert_eq!(event(&mut watch, started).await, file);
    soon(switch.execute(C::Break { uuid: uuid.clone(), all: true })).await.unwrap();
    let stopped = |event: &ChannelEvent| match &event.kind {
        Kind::PlaybackStopped { broken, .. } => Some(*broken),
        _ => None,
    };
    assert!(event(&mut watch, stopped).await);

    let tag = new_uuid();
    let application = Application::new("set", "tandem_y=it's").unwrap();
    let execute =
        C::Execute { uuid: uuid.clone(), application, tag: Some(tag.clone()), lock: true };
    soon(switch.execute(execute)).await.unwrap();
    let tagged = |event: &ChannelEvent| match &event.kind {
        Kind::ExecuteComplete { app, tag, .. } if app == "set" => tag.clone(),
        _ => None,
    };
    assert_eq!(event(&mut watch, tagged).await, tag.as_str());

    let cause = Cause::from(HangupCause::UserBusy);
    soon(switch.execute(C::HangUp { uuid: uuid.clone(), cause })).await.unwrap();
    let hung_up = |event: &ChannelEvent| match &event.kind {
        Kind::HungUp { cause } => Some(cause.cause()),
        _ => None,
    };
    assert_eq!(event(&mut watch, hung_up).await, HangupCause::UserBusy);
    event(&mut watch, |event| (event.kind == Kind::Destroyed).then_some(())).await;
    let error = soon(switch.execute(C::Park { uuid: uuid.clone() })).await.unwrap_err();
    assert!(error.is_no_such_channel(), "{error}");
}

/// As a variable carries it: line ends and tabs are blanks.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[tokio::test]
async fn values_arrive_as_they_were() {
    let Some(switch) = switch().await else { return };
    let at_call = "Ann, \"O'Hara\" = 'x' \\ ; y";
    let (uuid, mut watch) = call(&switch, &[("tandem_a", at_call), ("tandem_b", "2")]).await;
    event(&mut watch, |event| (event.kind == Kind::Parked).then_some(())).await;
    assert_eq!(variable(&switch, &uuid, "tandem_a").await.as_deref(), Some(at_call));
    assert_eq!(variable(&switch, &uuid, "tandem_b").await.as_deref(), Some("2"));

    for nasty in NASTY {
        let one =
            C::SetVariables { uuid: uuid.clone(), variables: vec![(name("one"), value(nasty))] };
        soon(switch.execute(one)).await.unwrap();
        assert_eq!(variable(&switch, &uuid, "one").await, Some(one_line(nasty)));
    }
    let many: Vec<_> = NASTY
        .iter()
        .enumerate()
        .map(|(n, nasty)| (name(&format!("many_{n}")), value(nasty)))
        .collect();
    soon(switch.execute(C::SetVariables { uuid: uuid.clone(), variables: many })).await.unwrap();
    for (n, nasty) in NASTY.iter().enumerate() {
        assert_eq!(variable(&switch, &uuid, &format!("many_{n}")).await, Some(one_line(nasty)));
    }
    let long = "x".repeat(VariableValue::LIMIT);
    soon(switch.execute(C::SetVariables {
        uuid: uuid.clone(),
        variables: vec![(name("one"), value(&long))],
    }))
    .await
    .unwrap();
    assert_eq!(variable(&switch, &uuid, "one").await, Some(long));
    let unset = C::SetVariables { uuid: uuid.clone(), variables: vec![(name("one"), value(""))] };
    soon(switch.execute(unset)).await.unwrap();
    assert_eq!(variable(&switch, &uuid, "one").await, None);

    let inline = "tandem_i=a, 'b' c\\d, it's";
    let actions =
        vec![Application::new("set", inline).unwrap(), Application::new("park", "").unwrap()];
    soon(switch.execute(C::TransferInline { uuid: uuid.clone(), leg: TransferLeg::Own, actions }))
        .await
        .unwrap();
    event(&mut watch, |event| (event.kind == Kind::Parked).then_some(())).await;
    assert_eq!(
        variable(&switch, &uuid, "tandem_i").await.as_deref(),
        inline.strip_prefix("tandem_i=")
    );
    soon(switch.execute(C::HangUp { uuid, cause: HangupCause::NormalClearing.into() }))
        .await
        .unwrap();
}

#[tokio::test]
async fn calls_that_fail_say_why() {
    let Some(switch) = switch().await else { return };
    for (dial, cause) in [
        ("error/user_busy", "USER_BUSY"),
        ("sofia/gateway/tandem_none/1", "INVALID_GATEWAY"),
        ("nosuchmod/x", "CHAN_NOT_IMPLEMENTED"),
    ] {
        let call =
            Originate::parked(new_uuid(), DialString::new(dial).unwrap(), Duration::from_secs(5));
        let error = soon(switch.execute(C::Originate(Box::new(call)))).await.unwrap_err();
        assert_eq!(
            error.cause().map(|cause| cause.name().to_owned()).as_deref(),
            Some(cause),
            "{dial}: {error}"
        );
    }
}

#[tokio::test]
async fn legs_that_were_called_together_are_ended_together() {
    let Some(switch) = switch().await else { return };
    let called = new_uuid();
    let dial = DialString::new("null/a,null/b").unwrap();
    let call = Originate::parked(called.clone(), dial, Duration::from_secs(5));
    assert!(!call.is_named());
    let leg = soon(switch.execute(C::Originate(Box::new(call)))).await.unwrap().uuid().unwrap();
    assert_ne!(leg, called);
    let other = new_uuid();
    soon(switch.execute(C::HangUpCalled { leg: other, cause: HangupCause::NormalClearing.into() }))
        .await
        .unwrap();
    assert!(soon(switch.execute(C::Exists { uuid: leg.clone() })).await.unwrap().flag());
    soon(
        switch.execute(C::HangUpCalled { leg: called, cause: HangupCause::NormalClearing.into() }),
    )
    .await
    .unwrap();
    soon(async { while switch.execute(C::Exists { uuid: leg.clone() }).await.unwrap().flag() {} })
        .await;
}

#[tokio::test]
async fn bridging_is_told_to_both_and_a_fork_that_fails_is_told() {
    let Some(switch) = switch().await else { return };
    let LinkState::Up(facts) = switch.state() else { panic!() };
    let (a, mut watch_a) = call(&switch, &[]).await;
    let (b, mut watch_b) = call(&switch, &[]).await;
    for (loaded, module) in [
        (facts.audio_fork, ForkModule::AudioForkBidirectional),
        (facts.audio_stream, ForkModule::AudioStream),
    ] {
        if !loaded {
            eprintln!("{} is not loaded", module.module());
            continue;
        }
        let start = ForkStart {
            fork: ForkName { uuid: a.clone(), module, bug: None },
            url: ForkUrl::new("ws://127.0.0.1:9/nobody?token=x").unwrap(),
            mix: Mix::Mono,
            rate: SampleRate::Hz16000,
            metadata: None,
            back: (module == ForkModule::AudioForkBidirectional).then_some(SampleRate::Hz16000),
        };
        soon(switch.execute(C::ForkStart(Box::new(start.clone())))).await.unwrap();
        let failed = |event: &ChannelEvent| match &event.kind {
            Kind::Fork { event: ForkEvent::Failed { detached, .. }, .. } => Some(*detached),
            _ => None,
        };
        let detached = event(&mut watch_a, failed).await;
        assert_eq!(detached, module == ForkModule::AudioStream);
        let stop = soon(switch.execute(C::ForkStop { fork: start.fork, text: None })).await;
        // The module that takes its fork off by itself does so a moment before or after it says so.
        assert!(stop.is_ok() || detached, "{stop:?}");
    }
    let reply =
        soon(switch.execute(C::Bridge { uuid: a.clone(), other: b.clone() })).await.unwrap();
    assert!(reply.uuid().is_some());
    let peer = |event: &ChannelEvent| match &event.kind {
        Kind::Bridged { peer } => Some(peer.clone()),
        _ => None,
    };
    assert_eq!(event(&mut watch_a, peer).await, b);
    assert_eq!(event(&mut watch_b, peer).await, a);
    soon(switch.execute(C::HangUp { uuid: a, cause: HangupCause::NormalClearing.into() }))
        .await
        .unwrap();
    soon(switch.execute(C::HangUp { uuid: b, cause: HangupCause::NormalClearing.into() }))
        .await
        .ok();
}

#[tokio::test]
async fn the_switch_connects_and_the_channel_is_ours_until_it_is_given_back() {
    let Some(switch) = switch().await else { return };
    let at = ["127.0.0.1:0".parse().unwrap()];
    let mut listener = OutboundListener::bind(&at, OutboundSettings::default()).await.unwrap();
    let uuid = new_uuid();
    let dial = DialString::new("null/tandem").unwrap();
    let mut call = Originate::parked(uuid.clone(), dial, Duration::from_secs(5));
    let args = format!("{} async full", listener.addresses()[0]);
    call.connect = Connect::Application(Application::new("socket", &args).unwrap());
    let call = call.variable("tandem_x", "out").unwrap();
    soon(switch.execute(C::Originate(Box::new(call)))).await.unwrap();

    let mut channel = soon(listener.accept()).await.unwrap();
    assert_eq!(channel.uuid(), &uuid);
    assert_eq!(channel.headers().variable("tandem_x"), Some("out"));
    let mut events = channel.take_events().unwrap();
    let own = channel.switch().clone();
    let set =
        C::SetVariables { uuid: uuid.clone(), variables: vec![(name("tandem_x"), value("it's"))] };
    soon(channel.execute(set)).await.unwrap();
    assert_eq!(variable(&own, &uuid, "tandem_x").await.as_deref(), Some("it's"));

    // A leg called from the channel's own connection is heard there.
    let leg = new_uuid();
    let mut leg_events = channel.watch(leg.clone()).unwrap();
    let dial = DialString::new("null/other").unwrap();
    let call = Originate::parked(leg.clone(), dial, Duration::from_secs(5));
    soon(channel.execute(C::Originate(Box::new(call)))).await.unwrap();
    event(&mut leg_events, |event| (event.kind == Kind::Parked).then_some(())).await;
    soon(channel.execute(C::HangUp { uuid: leg, cause: HangupCause::UserBusy.into() }))
        .await
        .unwrap();
    event(&mut leg_events, |event| (event.kind == Kind::Destroyed).then_some(())).await;

    // Given back, the channel has nothing left to do and ends.
    drop(own);
    let mut seen = switch.watch(uuid.clone()).unwrap();
    channel.release();
    event(&mut seen, |event| matches!(event.kind, Kind::HungUp { .. }).then_some(())).await;
    while let Some(notice) = soon(events.recv()).await {
        assert!(
            matches!(notice, ChannelNotice::Event(_) | ChannelNotice::Down { .. }),
            "{notice:?}"
        );
    }
    assert_eq!(soon(switch.execute(C::Exists { uuid })).await.map(|reply| reply.flag()), Ok(false));
}

#[tokio::test]
async fn the_last_events_of_a_channel_come_over_its_own_connection() {
    let Some(switch) = switch().await else { return };
    let at = ["127.0.0.1:0".parse().unwrap()];
    let mut listener = OutboundListener::bind(&at, OutboundSettings::default()).await.unwrap();
    let uuid = new_uuid();
    let dial = DialString::new("null/tandem").unwrap();
    let mut call = Originate::parked(uuid.clone(), dial, Duration::from_secs(5));
    let args = format!("{} async full", listener.addresses()[0]);
    call.connect = Connect::Application(Application::new("socket", &args).unwrap());
    soon(switch.execute(C::Originate(Box::new(call)))).await.unwrap();
    let mut channel = soon(listener.accept()).await.unwrap();
    let mut events = channel.take_events().unwrap();
    soon(channel.execute(C::HangUp { uuid, cause: HangupCause::UserBusy.into() })).await.unwrap();
    let complete = |event: &ChannelEvent| match &event.kind {
        Kind::HungUpComplete { cause } => Some(cause.name().to_owned()),
        _ => None,
    };
    assert_eq!(event(&mut events, complete).await, "USER_BUSY");
    // It lingers, so that a leg that was called for the channel can be ended yet; `Destroyed` only comes after that.
    let version = soon(channel.execute(C::Version)).await.unwrap();
    assert!(version.text().contains("FreeSWITCH"), "{version:?}");
    channel.release();
    while soon(events.recv()).await.is_some() {}
}

/// Passes connections on to the switch until it is dropped, and with it they.
async fn proxy(at: &str) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.unwrap();
        let switch = std::env::var("TANDEM_FREESWITCH").unwrap();
        let mut there = tokio::net::TcpStream::connect(switch).await.unwrap();
        tokio::io::copy_bidirectional(&mut here, &mut there).await.ok();
    });
    (address, task)
}

#[tokio::test]
async fn after_an_outage_the_living_are_told_from_the_gone() {
    let Some(direct) = switch().await else { return };
    let (address, connection) = proxy("127.0.0.1:0").await;
    let password = std::env::var("TANDEM_FREESWITCH_PASSWORD").unwrap_or("ClueCon".into());
    let switch =
        Switch::start(SwitchSettings::new("proxied", address.to_string(), password.into()))
            .unwrap();
    soon(switch.up()).await.unwrap();
    let (alive, mut alive_events) = call(&switch, &[]).await;
    let (gone, mut gone_events) = call(&switch, &[]).await;
    let parked = |event: &ChannelEvent| (event.kind == Kind::Parked).then_some(());
    event(&mut alive_events, parked).await;
    event(&mut gone_events, parked).await;

    connection.abort();
    assert!(matches!(soon(alive_events.recv()).await, Some(ChannelNotice::Down { .. })));
    assert!(matches!(soon(gone_events.recv()).await, Some(ChannelNotice::Down { .. })));
    let park = C::Park { uuid: alive.clone() };
    assert_eq!(soon(switch.execute(park)).await, Err(SwitchError::Down));
    let variables = vec![(name("tandem_x"), value("kept"))];
    let kept = switch.submit(C::SetVariables { uuid: alive.clone(), variables });
    soon(
        direct.execute(C::HangUp { uuid: gone.clone(), cause: HangupCause::NormalClearing.into() }),
    )
    .await
    .unwrap();
    soon(async { while direct.execute(C::Exists { uuid: gone.clone() }).await.unwrap().flag() {} })
        .await;

    let (_, _connection) = proxy(&address.to_string()).await;
    assert_eq!(soon(alive_events.recv()).await, Some(ChannelNotice::Alive));
    assert_eq!(soon(gone_events.recv()).await, Some(ChannelNotice::Gone));
    soon(kept).await.unwrap();
    assert_eq!(variable(&direct, &alive, "tandem_x").await.as_deref(), Some("kept"));
    soon(switch.execute(C::HangUp { uuid: alive, cause: HangupCause::NormalClearing.into() }))
        .await
        .unwrap();
    event(&mut alive_events, |event| (event.kind == Kind::Destroyed).then_some(())).await;
}

#[tokio::test]
async fn the_other_controls_of_a_channel() {
    let Some(switch) = switch().await else { return };
    let (uuid, mut watch) = call(&switch, &[]).await;
    event(&mut watch, |event| (event.kind == Kind::Parked).then_some(())).await;
    let file = std::env::temp_dir().join(format!("tandem-{uuid}.wav"));
    let path = MediaPath::new(file.to_str().unwrap()).unwrap();
    let record = |action| C::Record { uuid: uuid.clone(), action, path: path.clone() };
    soon(switch.execute(record(RecordAction::Start { limit: Some(Duration::from_secs(60)) })))
        .await
        .unwrap();
    let recording =
        |event: &ChannelEvent| matches!(&event.kind, Kind::RecordStarted { .. }).then_some(());
    event(&mut watch, recording).await;
    for action in
        [RecordAction::Mask, RecordAction::Unmask, RecordAction::Pause, RecordAction::Resume]
    {
        soon(switch.execute(record(action))).await.unwrap();
    }
    soon(switch.execute(record(RecordAction::Stop))).await.unwrap();
    let recorded = |event: &ChannelEvent| match &event.kind {
        Kind::RecordStopped { path } => Some(path.clone()),
        _ => None,
    };
    assert_eq!(event(&mut watch, recorded).await, path.as_str());
    std::fs::remove_file(file).ok();

    for direction in [Direction::Read, Direction::Write] {
        soon(switch.execute(C::Mute { uuid: uuid.clone(), direction, on: true })).await.unwrap();
        soon(switch.execute(C::Mute { uuid: uuid.clone(), direction, on: false })).await.unwrap();
    }
    let digits = Digits::new("12w#").unwrap();
    let send =
        C::SendDigits { uuid: uuid.clone(), digits, duration: Some(Duration::from_millis(100)) };
    soon(switch.execute(send)).await.unwrap();

    let spy = new_uuid();
    let dial = DialString::new("null/spy").unwrap();
    let mut spy_events = switch.watch(spy.clone()).unwrap();
    let listener = Originate::parked(spy.clone(), dial, Duration::from_secs(5));
    let eavesdrop =
        Eavesdrop { uuid: uuid.clone(), listener, mode: EavesdropMode::WhisperToChannel };
    let reply = soon(switch.execute(C::Eavesdrop(Box::new(eavesdrop)))).await.unwrap();
    assert_eq!(reply.uuid(), Some(spy.clone()));
    let listens = |event: &ChannelEvent| match &event.kind {
        Kind::Executed { app, args, .. } if app == "eavesdrop" => Some(args.clone()),
        _ => None,
    };
    assert_eq!(event(&mut spy_events, listens).await, uuid.as_str());
    assert_eq!(variable(&switch, &spy, "eavesdrop_whisper_bleg").await.as_deref(), Some("true"));
    soon(switch.execute(C::HangUp { uuid: spy, cause: HangupCause::NormalClearing.into() }))
        .await
        .unwrap();

    let has = async |module: &str| {
        let module = Word::new(module).unwrap();
        soon(switch.execute(C::ModuleExists { module })).await.unwrap().flag()
    };
    if has("mod_valet_parking").await {
        let slot = ValetSlot::Range { first: 7001, last: 7099 };
        let lot = Word::new("tandem_test").unwrap();
        soon(switch.execute(C::ValetPark { uuid: uuid.clone(), lot, slot })).await.unwrap();
        let parked = |event: &ChannelEvent| match &event.kind {
            Kind::Valet { slot, action, .. } if action == "hold" => slot.parse::<u32>().ok(),
            _ => None,
        };
        assert!((7001..=7099).contains(&event(&mut watch, parked).await));
    }
    if has("mod_conference").await {
        let room = Word::new(&format!("tandem_{}", &uuid.as_str()[..8])).unwrap();
        let actions = vec![Application::new("conference", &format!("{room}@default")).unwrap()];
        let join = C::TransferInline { uuid: uuid.clone(), leg: TransferLeg::Own, actions };
        soon(switch.execute(join)).await.unwrap();
        let joined = |event: &ChannelEvent| match &event.kind {
            Kind::Conference { action, member, .. } if action == "add-member" => *member,
            _ => None,
        };
        let member = Member::Id(event(&mut watch, joined).await);
        let order = |command| switch.execute(C::Conference { name: room.clone(), command });
        let list = soon(order(ConferenceCommand::List)).await.unwrap();
        assert!(list.text().contains(uuid.as_str()), "{list:?}");
        for command in [
            ConferenceCommand::Mute(member),
            ConferenceCommand::Unmute(member),
            ConferenceCommand::Lock(true),
            ConferenceCommand::Lock(false),
        ] {
            soon(order(command)).await.unwrap();
        }
        let dial = DialString::new("null/third").unwrap();
        let (number, name) = (Word::new("4930").unwrap(), CallerName::new("Ann O'Hara").unwrap());
        soon(order(ConferenceCommand::Dial { dial, number, name })).await.unwrap();
        soon(async {
            while !order(ConferenceCommand::List).await.unwrap().text().contains("third") {}
        })
        .await;
        soon(order(ConferenceCommand::HangUp(Member::All))).await.unwrap();
    }
    let gateway = Word::new("tandem_none").unwrap();
    let status = soon(switch.execute(C::GatewayStatus { gateway })).await.unwrap();
    assert!(status.text().contains("Invalid Gateway"), "{status:?}");
    soon(switch.execute(C::HangUp { uuid, cause: HangupCause::NormalClearing.into() })).await.ok();
}

#[tokio::test]
async fn a_bridged_pair_becomes_three() {
    let Some(switch) = switch().await else { return };
    let (a, mut watch_a) = call(&switch, &[]).await;
    let (b, _) = call(&switch, &[]).await;
    soon(switch.execute(C::Bridge { uuid: a.clone(), other: b.clone() })).await.unwrap();
    event(&mut watch_a, |event| matches!(event.kind, Kind::Bridged { .. }).then_some(())).await;
    let room = Word::new(&format!("tandem_{}", &a.as_str()[..8])).unwrap();
    let profile = Word::new("default").unwrap();
    soon(switch.execute(C::ThreeWay { uuid: a.clone(), conference: room.clone(), profile }))
        .await
        .unwrap();
    let list = async || {
        let list = C::Conference { name: room.clone(), command: ConferenceCommand::List };
        switch.execute(list).await.map(|reply| reply.text().to_owned()).unwrap_or_default()
    };
    soon(async {
        loop {
            let members = list().await;
            if members.contains(a.as_str()) && members.contains(b.as_str()) {
                break;
            }
        }
    })
    .await;
    for uuid in [a, b] {
        soon(switch.execute(C::HangUp { uuid, cause: HangupCause::NormalClearing.into() }))
            .await
            .ok();
    }
}
