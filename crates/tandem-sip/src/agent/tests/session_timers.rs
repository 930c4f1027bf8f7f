//! Who keeps a session alive, and how often it is tried.

use super::*;

#[test]
fn a_peer_that_always_wants_a_longer_interval_is_asked_twice() {
    let (mut world, _) = World::answered(
        "Supported: timer\nSession-Expires: 600;refresher=uas\nAllow: INVITE\n",
        settings(),
    );
    let (_, done) = timed(world.pass(secs(301)));
    let mut asked = sent(&done);
    assert_eq!(asked[0].request.headers.get("Session-Expires"), Some("600;refresher=uac"));
    let mut count = 0;
    while let Some(request) = asked.pop() {
        count += 1;
        assert!(count < 100, "a storm");
        let least = (1000 + count).to_string();
        let done = world.respond(&request, 422, "caller", &[("Min-SE", &least)], "");
        asked = sent(&done);
        if let Some(again) = asked.first() {
            assert_eq!(
                again.request.headers.get("Session-Expires"),
                Some("1001;refresher=uac"),
                "who refreshes stays"
            );
        }
    }
    assert_eq!(count, 2);
    let (times, done) = timed(world.pass(secs(10)));
    assert_eq!((times.len(), sent(&done).len()), (1, 1), "a failed refresh is tried again later");
    let (_, done) = timed(world.pass(secs(300)));
    assert_eq!(events(&done), [&hung_up(HangupCause::RecoveryOnTimerExpire)]);
}

#[test]
fn a_session_too_short_for_a_peer_without_timers_is_longer() {
    for interval in ["0", "5", "89"] {
        let (mut world, tag) =
            World::answered(&format!("Session-Expires: {interval}\n"), settings());
        assert!(world.pass(secs(44)).is_empty(), "{interval}");
        let (_, done) = timed(world.pass(secs(1)));
        let refresh = sent(&done).remove(0);
        assert_eq!(refresh.request.headers.get("Session-Expires"), Some("90;refresher=uac"));
        let done = world.receive(&world.within(&tag, "BYE", 101, "", ""));
        assert_eq!(events(&done), [&hung_up(HangupCause::NormalClearing)], "{interval}");
    }
}

#[test]
fn the_peer_refreshes_the_session_or_loses_it() {
    let (mut world, tag) =
        World::answered("Supported: timer\nSession-Expires: 600;refresher=uac\n", settings());
    assert!(world.pass(secs(500)).is_empty());
    let refresh = "Supported: timer\nSession-Expires: 600;refresher=uac\n";
    let done = world.receive(&world.within(&tag, "UPDATE", 101, refresh, ""));
    assert_eq!(responses(&done)[0].headers.get("Session-Expires"), Some("600;refresher=uac"));
    let (times, done) = timed(world.pass(secs(700)));
    assert_eq!(times[0], secs(568));
    assert_eq!(sent(&done)[0].request.method, Method::Bye);
    assert_eq!(events(&done), [&hung_up(HangupCause::RecoveryOnTimerExpire)]);
}

#[test]
fn we_refresh_by_update_and_fall_back_to_invite() {
    let (mut world, _) =
        World::answered("Supported: timer\nSession-Expires: 600;refresher=uas\n", settings());
    let (times, done) = timed(world.pass(secs(301)));
    let update = sent(&done).remove(0);
    assert_eq!((times[0], update.request.method.clone()), (secs(300), Method::Update));
    assert_eq!(update.request.headers.get("Session-Expires"), Some("600;refresher=uac"));
    assert!(update.request.body.is_empty());
    world.respond(&update, 200, "caller", &[("Session-Expires", "600;refresher=uac")], "");
    let (times, done) = timed(world.pass(secs(301)));
    assert_eq!(times, [secs(300)]);
    let update = sent(&done).remove(0);
    let done = world.respond(&update, 405, "caller", &[], "");
    let reinvite = sent(&done).remove(0);
    assert_eq!(reinvite.request.method, Method::Invite);
    assert!(String::from_utf8_lossy(&reinvite.request.body).contains("m=audio 40000"));
    let answer = [
        ("Session-Expires", "600;refresher=uac"),
        ("Contact", "<sip:mod_sofia@198.51.100.7:5080>"),
    ];
    let done = world.respond(&reinvite, 200, "caller", &answer, &OFFER.replace("8 0 101", "0 101"));
    assert_eq!(
        acks(&done)[0].headers.get("CSeq"),
        Some(format!("{} ACK", reinvite.request.cseq().unwrap()).as_str())
    );
    assert!(events(&done).is_empty(), "nothing changed");
    let (_, done) = timed(world.pass(secs(301)));
    let reinvite = sent(&done).remove(0);
    assert_eq!(reinvite.request.method, Method::Invite, "it was learnt");
    let done = world.respond(&reinvite, 491, "caller", &[], "");
    assert!(sent(&done).is_empty());
    let (times, done) = timed(world.pass(secs(3)));
    assert!(times[0] <= secs(2), "who does not own the Call-ID waits up to two seconds");
    let reinvite = sent(&done).remove(0);
    let done = world.respond(&reinvite, 481, "caller", &[], "");
    assert_eq!(sent(&done)[0].request.method, Method::Bye);
}
