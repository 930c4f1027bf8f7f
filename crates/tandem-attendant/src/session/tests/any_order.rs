use super::*;

/// Commands and audio in any order: answers begin and end in turn, audio lies within one, nothing comes after the end.
#[test]
fn any_order_of_commands_keeps_the_shape_of_a_session() {
    let speech = caller();
    for seed in 1..=12_u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut pick = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut world =
            World::open(Script { parrot: seed % 5 == 0, ..script() }, |_, attendant| {
                attendant.apologise = seed % 3 == 0;
            });
        let mut calls = Vec::new();
        let mut is_answering = false;
        for _ in 0..300 {
            let call = ToolCallId(format!("attendant-100-{}", pick(8)));
            let item = ItemId(98 + pick(30));
            match pick(16) {
                0 => world.session.send(world.now, greet()),
                1 => world.session.send(
                    world.now,
                    ModelCommand::Say(
                        ["(The transfer failed)", "(The call was not ended)", "go on"]
                            [pick(3) as usize]
                            .into(),
                    ),
                ),
                2 => world.session.send(
                    world.now,
                    ModelCommand::Digits(["0", "#", "1", "5", "01#"][pick(5) as usize].into()),
                ),
                3 => world.session.send(world.now, ModelCommand::Cancel),
                4 => world.session.send(
                    world.now,
                    ModelCommand::Truncate { item, heard: Duration::from_millis(pick(3_000)) },
                ),
                5 => world.session.send(world.now, ModelCommand::Forget { item }),
                6 => world.session.send(
                    world.now,
                    ModelCommand::ToolResult { id: call, outcome: ToolOutcome::TimedOut },
                ),
                7 => world.tool_result_unseen(call),
                8 if pick(40) == 0 => world.session.send(world.now, ModelCommand::Close),
                8 => world.session.send(world.now, ModelCommand::Renew { history: Vec::new() }),
                9..=11 => {
                    let start = pick(speech.len() as u64 - 16_000) as usize;
                    world.listen(&speech[start..start + 16_000]);
                }
                _ => world.listen(&vec![0; 320 * pick(100) as usize]),
            }
            let was_closed = world.session.is_closed();
            for _ in 0..pick(20) {
                let mut sink = Sink::default();
                let polled = world.session.poll(
                    &mut Context::from_waker(Waker::noop()),
                    world.now,
                    &mut sink,
                );
                assert!(
                    !was_closed || (sink.events.is_empty() && polled.is_pending()),
                    "seed {seed}"
                );
                for event in &sink.events {
                    match event {
                        ModelEvent::ResponseStarted => {
                            assert!(!is_answering, "seed {seed}");
                            is_answering = true;
                        }
                        ModelEvent::ResponseEnded(_) => {
                            assert!(is_answering, "seed {seed}");
                            is_answering = false;
                        }
                        ModelEvent::AgentText { .. } => assert!(is_answering, "seed {seed}"),
                        ModelEvent::ToolCall(call) => {
                            assert!(is_answering, "seed {seed}");
                            assert!(!calls.contains(&call.id), "seed {seed}: {:?} twice", call.id);
                            calls.push(call.id.clone());
                        }
                        _ => {}
                    }
                }
                assert!(sink.audio.is_empty() || is_answering, "seed {seed}");
            }
        }
    }
}
